"""The default model, neva-nano: a packaged base LM plus the small trained parts committed here."""

from neva.nano.assemble import default_checkpoint

__all__ = ["default_checkpoint"]

"""The errors that a user can cause and mend: one clear sentence each, never a traceback.

The CLI prints the sentence and exits with 1; the server answers with `status`. Any other exception
is a fault of ours.
"""


class NevaError(Exception):
    """Something the user can mend. The message names the thing, what is wrong, and the remedy.

    `param`: the field of a request that is to blame, where it is one.
    """

    status = 400

    def __init__(self, message: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class CheckpointError(NevaError):
    """A checkpoint directory is missing, incomplete or of an unsupported kind."""


class DataError(NevaError):
    """A training or evaluation record cannot be used."""


class ImageError(NevaError):
    """Bytes that are no image we accept; never the decoder's own words (CVE-2026-22778)."""

    status = 422


class PromptError(NevaError):
    """A conversation that does not fit the template, or is longer than the context."""

    status = 422


class EngineError(NevaError):
    """The engine could not finish an accepted request (it restarted, or ran out of memory)."""

    status = 503
    wait = 2.0
    """Seconds after which it is worth while to ask again."""


class BusyError(EngineError):
    """The engine has too much to do; after `wait` seconds it may take the request."""

    status = 429

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait

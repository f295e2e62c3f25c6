"""Which release of NeVA is running."""

from importlib import metadata


def release() -> str:
    """The installed version of NeVA."""
    try:
        return metadata.version("neva-vlm")
    except metadata.PackageNotFoundError:
        return "0+unknown"

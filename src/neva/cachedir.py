"""Where this user's machine keeps what can be made again: the default model, exported graphs."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/neva`, or `~/.cache/neva`. Not created here."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "neva"

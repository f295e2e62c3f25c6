"""Environments of third-party tools, each with one pinned package, kept in the user's cache."""

import shutil
import subprocess
import sys
from pathlib import Path

from neva.cachedir import cache_dir


def run(*command: str | Path, folder: Path | None = None) -> str:
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python_with(package: str, version: str) -> Path:
    """The interpreter of an environment that has the package; made on first use."""
    folder = cache_dir() / "clients" / f"{package}-{version}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder)
        run(folder / "bin" / "pip", "install", "-q", f"{package}=={version}")
        (folder / "complete").touch()
    return folder / "bin" / "python"

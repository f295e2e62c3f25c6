"""Damaged and hostile sources of an import: little memory, little time, one true sentence."""

import contextlib
import errno
import gzip
import os
import pickle
import shutil
import signal
import struct
import tarfile
import warnings
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from foreign_layouts import (
    Evil,
    Whole,
    megatron_state,
    nemo_config,
    saved,
    write_llava,
    write_nemo,
    write_tar,
)

from neva.commands.ending import cleaned_up
from neva.errors import CheckpointError
from neva.model.files import check_free, written_aside
from neva.model.importing.door import import_checkpoint
from neva.model.importing.nemo_config import read_yaml
from neva.model.importing.pickles import read_pickle
from neva.model.reading import read_json
from neva.model.shapes import expected_shapes
from neva.model.weights import read_entries, weight_files, write_tensors

Disk = namedtuple("Disk", "total used free")


def refusal(source: Path | str, out: Path, **more: Any) -> str:
    """The one sentence; nothing is left in the folder of the output, nor are the new parents."""
    with pytest.raises(CheckpointError) as error:
        import_checkpoint(source, out / "new" / "ours", **more)
    assert "\n" not in str(error.value)
    assert not (out / "new").exists()
    return str(error.value)


# Sums


def test_a_gzipped_archive_is_held_against_its_sum(made: Whole, tmp_path: Path) -> None:
    archive = write_nemo(tmp_path / "n.nemo", made, gzipped=True)
    whole_file = archive.read_bytes()
    for first, last in ((-8, -7), (len(whole_file) // 2, len(whole_file) // 2 + 40)):
        hurt = bytearray(whole_file)
        hurt[first:last] = bytes(byte ^ 0xFF for byte in hurt[first:last])
        archive.write_bytes(hurt)
        assert "damaged" in refusal(archive, tmp_path, language=str(made.words))


def test_zipped_weights_are_held_against_their_sums(made: Whole, tmp_path: Path) -> None:
    file = write_llava(tmp_path / "theirs", made) / "pytorch_model.bin"
    with zipfile.ZipFile(file) as archive:
        member = max(archive.infolist(), key=lambda one: one.file_size)
    hurt = bytearray(file.read_bytes())
    start = member.header_offset + 200
    hurt[start : start + 64] = bytes(byte ^ 0xFF for byte in hurt[start : start + 64])
    file.write_bytes(hurt)
    assert f"{member.filename} is not what was written" in refusal(file.parent, tmp_path)


def test_weights_that_were_saved_without_sums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "w.bin")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_pickle(tmp_path / "w.bin")["a"].read(), torch.ones(3))


# Archives that are more than they seem


def header(kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def bomb(kind: bytes) -> Callable[[Path], None]:
    """A header that announces, and brings, 64 MiB of name."""

    def write(file: Path) -> None:
        with gzip.open(file, "wb", compresslevel=1) as stream:
            stream.write(header(kind, 2**26) + bytes(2**26) + bytes(1024))

    return write


def chained(file: Path) -> None:
    file.write_bytes((header(b"L", 4) + b"abc\0" + bytes(508)) * 3000 + bytes(1024))


def negative(file: Path) -> None:
    """A size below nothing, by which all of the rest is asked for."""
    block = bytearray(header(b"L", 4))
    block[124:136] = b"\xff" * 10 + b"\xfc\x00"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    file.write_bytes(bytes(block) + bytes(2**20))


def many_long_names(file: Path) -> None:
    """Names of 60 kB each: every one allowed, all of them more than the archive can be."""
    with gzip.open(file, "wb", compresslevel=1) as stream:
        for _ in range(1000):
            stream.write(header(b"L", 60_000) + b"n" * 60_000 + bytes(-60_000 % 512))
            stream.write(tarfile.TarInfo("n").tobuf(tarfile.GNU_FORMAT))


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (bomb(b"L"), "it has headers longer than any archive of a model"),
        (bomb(b"x"), "it has headers longer than any archive of a model"),
        (chained, "it has headers longer than any archive of a model"),
        (negative, "it has headers longer than any archive of a model"),
        (many_long_names, "more than a model can be"),
    ],
)
def test_headers_take_no_memory(
    tmp_path: Path, made: Whole, write: Callable[[Path], None], sentence: str
) -> None:
    write(tmp_path / "n.nemo")
    assert sentence in refusal(tmp_path / "n.nemo", tmp_path, language=str(made.words))


def test_long_names_of_honest_archives_are_read(tmp_path: Path, made: Whole) -> None:
    state = saved(megatron_state(made)[0])
    config = yaml.safe_dump(nemo_config(made)).encode()
    more = {"./" + "deep/" * 100 + "note": b"x"}
    files = {"./model_config.yaml": config, "./model_weights.ckpt": state}
    write_tar(tmp_path / "n.nemo", {**more, **files})
    import_checkpoint(tmp_path / "n.nemo", tmp_path / "ours", language=str(made.words))


# Settings


def test_yaml_that_multiplies_itself_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (tmp_path / "c.yaml").write_text("\n".join([*lines, "bias: *a8"]))
    with pytest.raises(CheckpointError, match="line 2 refers to another part"):
        read_yaml(tmp_path / "c.yaml", tmp_path / "a.nemo")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: " + "[" * 5000, "line 1 is nested too deeply"),
        ("a: " + "x" * 2**19, "longer than 262144 bytes"),
        ('a: !!int ""', "not YAML"),
        ("a: !!bool x", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
    ],
)
def test_odd_yaml_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=sentence) as error:
        read_yaml(tmp_path / "c.yaml", tmp_path / "a.nemo")
    assert str(error.value).startswith(f"{tmp_path / 'a.nemo'}: ")
    assert len(str(error.value)) < 300 + len(str(tmp_path))


def test_a_long_value_is_said_in_short(made: Whole, tmp_path: Path) -> None:
    archive = write_nemo(tmp_path / "n.nemo", made, bias=list(range(10_000)))
    assert len(refusal(archive, tmp_path, language=str(made.words))) < 400


def test_deep_json_is_refused(tmp_path: Path) -> None:
    deep = "[" * 100_000
    (tmp_path / "config.json").write_text(deep)
    with pytest.raises(CheckpointError, match="not JSON"):
        read_json(tmp_path / "config.json")
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(deep)) + deep.encode())
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        list(read_entries(file))
    (tmp_path / "model.safetensors.index.json").write_text(deep)
    with pytest.raises(CheckpointError, match="not an index of weights"):
        weight_files(tmp_path)


def test_a_deep_index_of_pickles_is_refused(made: Whole, tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "theirs", made, files=2)
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map":' + "[" * 100_000)
    assert "not an index of weights" in refusal(folder, tmp_path)


def test_a_model_type_may_be_anything(made: Whole, tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "theirs", made, model_type=["llama"])
    assert "a ['llama']; neva imports llava" in refusal(folder, tmp_path)


def test_no_model_has_a_thousand_million_layers(made: Whole, tmp_path: Path) -> None:
    folder = write_llava(tmp_path / "theirs", made, num_hidden_layers=10**9)
    assert "1000000000 layers by num_hidden_layers" in refusal(folder, tmp_path)
    for part in ("text_config", "vision_config"):
        with pytest.raises(CheckpointError, match="at most 10000"):
            expected_shapes({part: {"num_hidden_layers": 10**9}})


# Pickles


def said_of(file: Path) -> str:
    """The refusal; torch's own warnings are not the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError) as error:
            read_pickle(file)
    assert "copy it again" not in str(error.value) and "PyTorch 2.6" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("raw", [True, False])
def test_a_hostile_pickle_is_named(tmp_path: Path, protocol: int, raw: bool) -> None:
    file = tmp_path / "w.bin"
    state = {"a": Evil(Path("ran"))}
    if raw:
        file.write_bytes(pickle.dumps(state, protocol))
    else:
        torch.save(state, file, pickle_protocol=protocol)
    assert "it asks for posix.system" in said_of(file)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize(
    "state", [{"a": Evil(Path("ran"))}, {"a": torch.ones(3)}], ids=["evil", "good"]
)
def test_newer_protocols_are_refused_as_such(tmp_path: Path, protocol: int, state: Any) -> None:
    torch.save(state, tmp_path / "w.bin", pickle_protocol=protocol)
    said = said_of(tmp_path / "w.bin")
    assert f"a pickle of protocol {protocol}" in said and "without pickle_protocol" in said


def test_programs_and_rubbish_are_said_to_be_none(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "w.bin"))
    assert "a TorchScript program, no file of weights" in said_of(tmp_path / "w.bin")
    (tmp_path / "w.bin").write_bytes(b"\x1e rubbish")
    assert "(Unsupported operand 30): it is damaged, or holds" in said_of(tmp_path / "w.bin")


# Disks and folders


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with (
        pytest.raises(SystemExit) as end,
        cleaned_up(),
        written_aside(tmp_path / "new" / "out") as folder,
    ):
        (folder / "half").write_text("half")
        os.kill(os.getpid(), number)
    assert end.value.code == 128 + number
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored() -> None:
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cleaned_up():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"No space left.*make room") as error,
        written_aside(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path)
    with pytest.raises(OSError) as other, written_aside(tmp_path / "out"):
        raise OSError(errno.EIO, "of another place")
    assert other.value.filename is None


def test_too_little_room_is_said_before_anything_is_written(
    made: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_nemo(tmp_path / "n.nemo", made)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**9, 0, 10_000))
    said = refusal(archive, tmp_path, language=str(made.words))
    assert "MB are to be written there, and the disk has 0.0 MB free" in said
    (tmp_path / "aside").mkdir()
    with pytest.raises(CheckpointError, match="MB free; make room there"):
        write_tensors(tmp_path / "aside", {"a": torch.zeros(10_000).numpy()})
    assert list((tmp_path / "aside").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(0, 0, 0))  # a disk that is silent
    write_tensors(tmp_path / "aside", {"a": torch.zeros(10_000).numpy()})


def test_the_folder_that_one_is_in_is_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", "", "../here", str(tmp_path / "here")):
        with pytest.raises(CheckpointError, match="is the folder that you are in"):
            check_free(Path(name))


def test_a_link_to_an_empty_folder_is_an_output(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with written_aside(tmp_path / "link") as folder:
        (folder / "whole").write_text("whole")
    assert (tmp_path / "disk" / "whole").is_file() and (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def test_parents_that_others_use_by_now_are_left(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), written_aside(tmp_path / "one" / "two" / "out"):
        (tmp_path / "one" / "other").write_text("another's")
        raise KeyError
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["other"]


def test_an_early_failure_leaves_no_parents(made: Whole, tmp_path: Path) -> None:
    archive = write_nemo(tmp_path / "n.nemo", made)
    assert "no/such" in refusal(archive, tmp_path, language="./no/such")


def test_what_an_import_needs_is_said(made: Whole, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refusal(tmp_path / "empty", tmp_path)
    assert "config.json is missing; what is imported is a folder of LLaVA's own layout" in said
    assert "neva compose" not in said
    (tmp_path / "empty" / "adapter_config.json").touch()
    with pytest.raises(CheckpointError, match=r"x.json is missing; copy it again from where"):
        read_json(tmp_path / "empty" / "x.json")


def test_an_empty_text_is_no_source(
    made: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_llava(tmp_path / "theirs", made)
    monkeypatch.chdir(folder)
    assert "The source is an empty text" in refusal("", tmp_path)
    archive = write_nemo(tmp_path / "n.nemo", made)
    assert "empty text" in refusal(archive, tmp_path, language="")

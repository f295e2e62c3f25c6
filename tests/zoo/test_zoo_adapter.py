"""The committed adapter goes to peft's form and comes back bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from zoo.adapter import build, shape, unmerged

from neva.model.adapter import ADAPTER
from neva.nano.assemble import read_parts
from neva.nano.manifest import TENSORS, WEIGHTS, read_manifest
from neva.nano.pack import _read_adapter, pack


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    build(tmp_path)
    found, scale = _read_adapter(tmp_path)
    packed = {n: v for n, v in read_parts(WEIGHTS).items() if ".lora_" in n}
    assert scale == read_manifest(WEIGHTS).scale
    assert found.keys() == packed.keys()
    assert all(np.array_equal(found[name], value) for name, value in packed.items())


def test_taken_apart_it_packs_to_the_same_files(tmp_path: Path) -> None:
    start, weights = tmp_path / "start", tmp_path / "weights"
    unmerged(start)
    build(tmp_path / "adapter")
    shutil.copytree(WEIGHTS, weights)
    made = pack(start, tmp_path / "adapter", weights)
    assert made == read_manifest(WEIGHTS)


def test_tensors_that_did_not_change_keep_their_bytes(tmp_path: Path) -> None:
    start, weights, adapter = (tmp_path / name for name in ("start", "weights", "adapter"))
    unmerged(start)
    build(adapter)
    theirs = load_file(adapter / ADAPTER)
    learnt = next(n for n in theirs if ".mlp." in n and n.endswith(".lora_B.weight"))
    theirs[learnt] = theirs[learnt] * 1.25
    save_file(theirs, adapter / ADAPTER)
    shutil.copytree(WEIGHTS, weights)
    pack(start, adapter, weights)
    before, after = (
        {file: load_file(one / file) for file in TENSORS} for one in (WEIGHTS, weights)
    )
    part = next(file for file in TENSORS if file.startswith("adapter_mlp_b"))
    changed = {
        name for name in before[part] if not torch.equal(before[part][name], after[part][name])
    }
    for file in set(TENSORS) - {part}:
        assert (weights / file).read_bytes() == (WEIGHTS / file).read_bytes()
    stem = learnt.removeprefix("base_model.model.model.language_model.").removesuffix(".weight")
    assert {name.removesuffix(".scale") for name in changed} == {stem}


def test_two_ranks_are_no_adapter() -> None:
    parts = {f"layers.0.{n}.lora_A": torch.zeros(r, 8) for n, r in (("a", 2), ("b", 4))}
    with pytest.raises(ValueError, match=r"one rank.*\[2, 4\]"):
        shape(parts, 2.0)

"""A run from checkpoint to checkpoint: what learns, what must not change, what is left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import write_clip, write_language

from neva.errors import DataError, NevaError
from neva.model import Checkpoint, read_tensors
from neva.model.compose import compose
from neva.model.keys import PROJECTOR, VISION
from neva.train.intake import Intake
from neva.train.loop import run
from neva.train.recipe import Recipe
from neva.train.summary import Summary

QUICK = Recipe(
    learning_rate=1e-2, batch_size=4, max_steps=6, max_length=512, row_tokens=512, threads=1
)
TUNE = QUICK.with_values(stage="finetune")


def changed(before: Checkpoint, after: Checkpoint) -> set[str]:
    """Names of the tensors whose bytes differ."""
    old, new = read_tensors(before), read_tensors(after)
    assert set(old) == set(new)
    return {name for name in old if old[name].tobytes() != new[name].tobytes()}


def train(
    recipe: Recipe, parent: Checkpoint, data: Path, pictures: Path, out: Path, resume: bool = False
) -> Summary:
    return run(recipe, parent.path, [data], pictures, out, resume)


def test_pretrain_changes_the_projector_only(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    summary = train(QUICK, parent, data, pictures, tmp_path / "run")
    made = Checkpoint.open(tmp_path / "run" / "final")
    projector = {name for name in read_tensors(parent) if name.startswith(PROJECTOR)}
    assert changed(parent, made) == projector
    assert summary.last_loss < summary.first_loss
    assert made.provenance.stage == "pretrained"
    assert made.provenance.parents == (parent.sha256, *parent.provenance.parents)
    (used,) = made.provenance.datasets
    assert (used.name, used.samples, used.skipped) == ("train.json", 24, 0)


@pytest.mark.parametrize("recipe", [QUICK, TUNE])
def test_a_linear_projector_stays_one_linear_layer(
    recipe: Recipe, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """Hugging Face's class has two layers; of a linear one, the second is the identity for ever."""
    clip = write_clip(tmp_path / "clip")
    language = write_language(tmp_path / "llama", "llama", max_position_embeddings=1024)
    linear = compose(clip, language, "linear", tmp_path / "model")
    train(recipe, linear, data, pictures, tmp_path / "run")
    made = Checkpoint.open(tmp_path / "run" / "final")
    found = {name for name in changed(linear, made) if name.startswith(PROJECTOR)}
    assert found == {f"{PROJECTOR}linear_1.weight", f"{PROJECTOR}linear_1.bias"}


def test_finetune_changes_projector_and_lm_but_not_clip(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    train(TUNE, parent, data, pictures, tmp_path / "run")
    found = changed(parent, Checkpoint.open(tmp_path / "run" / "final"))
    everything = set(read_tensors(parent))
    assert found == {name for name in everything if not name.startswith(VISION)}


def test_lora_changes_what_it_targets_and_merges_to_the_same_model(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    recipe = TUNE.with_values(
        lora=True, lora_rank=4, lora_alpha=8.0, lora_targets="q_proj,v_proj", precision="fp32"
    )
    train(recipe, parent, data, pictures, tmp_path / "run")
    made = Checkpoint.open(tmp_path / "run" / "final")
    found = changed(parent, made)
    expected = {n for n in read_tensors(parent) if "q_proj" in n or "v_proj" in n}
    expected = {n for n in expected if not n.startswith(VISION)}
    assert found == expected | {n for n in read_tensors(parent) if n.startswith(PROJECTOR)}
    from peft import PeftConfig

    assert PeftConfig.from_pretrained(str(tmp_path / "run" / "adapter")).r == 4


def test_parts_of_an_adapter_are_held_where_it_is_asked(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    from neva.model.adapter import ADAPTER

    recipe = TUNE.with_values(lora=True, lora_rank=4, lora_alpha=8.0)
    train(recipe, parent, data, pictures, tmp_path / "first")
    begun = tmp_path / "first" / "adapter"
    one = load_file(begun / ADAPTER)
    rounded = {name: value.bfloat16().float() for name, value in one.items()}
    for name, value in rounded.items():
        one[name].copy_(value)
    save_file(one, begun / ADAPTER)
    held = recipe.with_values(lora_hold="lora_A, v_proj", lora_from=str(begun), seed=5)
    train(held, parent, data, pictures, tmp_path / "second")
    other = load_file(tmp_path / "second" / "adapter" / ADAPTER)
    same = {name for name in one if torch.equal(one[name], other[name].float())}
    assert same == {name for name in one if "lora_A" in name or "v_proj" in name}
    assert len(same) < len(one)
    found = changed(parent, Checkpoint.open(tmp_path / "second" / "final"))
    assert any("q_proj" in name for name in found)


def test_a_part_that_no_adapter_has_cannot_be_held(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    recipe = TUNE.with_values(lora=True, lora_rank=4, lora_hold="lora_A, gait_proj")
    with pytest.raises(NevaError, match=r"no part gait_proj; a part is lora_A"):
        train(recipe, parent, data, pictures, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_float32_parent_keeps_its_frozen_bits_through_a_bfloat16_run(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    from neva.model.load import load_model
    from neva.model.save import save_checkpoint

    model = load_model(parent).float()
    for parameter in model.parameters():
        parameter.data.mul_(1 + 1e-5)  # numbers that bfloat16 cannot hold
    exact = save_checkpoint(model, parent, tmp_path / "exact", parent.provenance, "float32")
    train(QUICK, exact, data, pictures, tmp_path / "run")
    found = changed(exact, Checkpoint.open(tmp_path / "run" / "final"))
    assert found == {name for name in read_tensors(exact) if name.startswith(PROJECTOR)}


def test_the_run_folder_tells_the_whole_story(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(QUICK.with_values(validation_share=0.2), parent, data, pictures, out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert all(line["supervised_tokens"] > 0 for line in steps)
    assert any("validation_loss" in line for line in lines)
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "recipe.json").read_text())["learning_rate"] == 1e-2
    assert json.loads((out / "environment.json").read_text())["packages"]["torch"]
    assert json.loads((out / "summary.json").read_text())["steps"] == 6


def test_rows_do_not_change_what_is_learned(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """One long row or one row per sample: the same loss and, in fp32, the same weights."""
    exact = QUICK.with_values(precision="fp32", max_steps=3, learning_rate=1e-3)
    for name, tokens in (("long", 4096), ("short", 256)):
        recipe = exact.with_values(max_length=256, row_tokens=tokens)
        train(recipe, parent, data, pictures, tmp_path / name)
    one, two = (read_tensors(Checkpoint.open(tmp_path / n / "final")) for n in ("long", "short"))
    for name in one:
        a, b = one[name].astype(np.float32), two[name].astype(np.float32)
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-4)


@pytest.mark.parametrize("kind", ["no images folder", "broken json", "no answer", "taken", "gone"])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    kind: str, parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    out, file, images = tmp_path / "run", tmp_path / "bad.json", pictures
    file.write_text(data.read_text())
    words = kind
    if kind == "no images folder":
        images, words = tmp_path / "nowhere", "no such folder"
    elif kind == "broken json":
        file.write_text("[{]")
    elif kind == "no answer":
        turns = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "x" * 3000}]
        records = [{"id": str(i), "conversations": turns} for i in range(8)]
        file.write_text(json.dumps(records).replace("Hello?", "Hello?" * 200))
        words = "no answer to learn"
    elif kind == "taken":
        out.mkdir()
        (out / "thesis.txt").write_text("keep me")
        words = "is not empty"
    elif kind == "gone":
        images, words = tmp_path / "empty", "max_bad_share"
        images.mkdir()
        file.write_text(json.dumps([r for r in json.loads(data.read_text()) if "image" in r]))
    with pytest.raises(NevaError, match=f"(?i){words}") as caught:
        train(TUNE if kind == "no answer" else QUICK, parent, file, images, out)
    assert "\n" not in str(caught.value)
    left = [p.name for p in out.iterdir()] if out.exists() else []
    assert left == (["thesis.txt"] if kind == "taken" else [])


def test_a_broken_image_is_skipped_named_and_counted(
    parent: Checkpoint,
    data: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = json.loads(data.read_text())
    records[3]["image"] = "missing.png"
    file = tmp_path / "some.json"
    file.write_text(json.dumps(records))
    summary = train(QUICK.with_values(max_bad_share=0.5), parent, file, pictures, tmp_path / "run")
    assert summary.skipped == 1
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (event,) = [line for line in lines if line.get("event") == "skipped"]
    assert event["samples"] == ["sample-3"] and "missing.png" in event["why"]
    assert "skipped sample 'sample-3'" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"1 of 24 records .*'sample-3': .*missing.png"):
        train(QUICK.with_values(max_bad_share=0.01), parent, file, pictures, tmp_path / "strict")
    assert not (tmp_path / "strict").exists()
    with pytest.raises(DataError, match="No template is called"):
        train(QUICK.with_values(template="v9"), parent, file, pictures, tmp_path / "other")
    with pytest.raises(DataError, match="speaks v1, and the recipe asks for chatml"):
        train(TUNE.with_values(template="chatml"), parent, file, pictures, tmp_path / "other")


@pytest.mark.parametrize("cache", [True, False])
def test_a_broken_held_out_image_is_told_once_and_counted(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path, cache: bool
) -> None:
    """However often the held-out loss is asked for."""
    recipe = QUICK.with_values(
        validation_share=0.3, validate_every=1, feature_cache=cache, max_bad_share=0.5
    )
    out = Intake.open(recipe, [data], pictures).validation[0].id
    records = json.loads(data.read_text())
    for record in records:
        if record["id"] == out:
            record["image"] = "gone.png"
    file = tmp_path / "some.json"
    file.write_text(json.dumps(records))
    summary = train(recipe, parent, file, pictures, tmp_path / "run")
    assert summary.skipped == 1
    assert [used["skipped"] for used in summary.datasets] == [1]
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [x["samples"] for x in lines if x.get("event") == "skipped"] == [[out]]
    assert sum("validation_loss" in line for line in lines) > 1


def test_cached_features_teach_the_same(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """In fp32 the cache changes nothing but the time; a second run finds it filled."""
    exact = QUICK.with_values(precision="fp32", learning_rate=1e-3)
    for name, cache in (("live", False), ("cached", True), ("again", True)):
        recipe = exact.with_values(feature_cache=cache)
        train(recipe, parent, data, pictures, tmp_path / name)
    live, cached, again = (
        read_tensors(Checkpoint.open(tmp_path / name / "final"))
        for name in ("live", "cached", "again")
    )
    for name in live:
        assert cached[name].tobytes() == again[name].tobytes()
        a, b = live[name].astype(np.float32), cached[name].astype(np.float32)
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-4)


def test_the_adapter_on_the_parent_is_the_final_model(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """Merged in float32 and rounded once, bit for bit."""
    from neva.model.adapter import load_adapter, merge_lora
    from neva.model.load import load_model
    from neva.model.save import save_checkpoint

    recipe = TUNE.with_values(lora=True, lora_rank=4, lora_alpha=8.0)
    train(recipe, parent, data, pictures, tmp_path / "run")
    model = load_model(parent).float()
    load_adapter(model, tmp_path / "run" / "adapter")
    again = save_checkpoint(merge_lora(model), parent, tmp_path / "again", parent.provenance)
    assert changed(again, Checkpoint.open(tmp_path / "run" / "final")) == set()


def test_it_learns_to_see(parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path) -> None:
    """Random models end up naming colours far better than one who does not see the image can."""
    records = [r for r in json.loads(data.read_text()) if "image" in r]
    file = tmp_path / "seen.json"
    file.write_text(json.dumps(records))
    recipe = TUNE.with_values(learning_rate=5e-3, max_steps=80, batch_size=8, warmup_ratio=0.1)
    train(recipe, parent, file, pictures, tmp_path / "run")
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    blind = np.log(3) / 5  # nats per token of guessing one of three words of about 5 tokens
    assert lines[-1]["loss"] < blind / 2

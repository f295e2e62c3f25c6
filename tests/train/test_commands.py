"""`neva pretrain` and `neva finetune` as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from neva.commands.cache import cache
from neva.commands.check import check, open_encoding
from neva.commands.finetune import finetune
from neva.commands.pretrain import pretrain
from neva.commands.stats import stats
from neva.commands.training import resolve
from neva.errors import NevaError
from neva.model import Checkpoint
from neva.train.recipe import Recipe

SMALL = ["--batch-size", "4", "--max-length", "256", "--row-tokens", "256", "--threads", "1"]


def call(command: Callable[..., Any], *words: str | Path) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_both_stages_one_after_the_other(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    files = ["--data", data, "--images", pictures]
    words = ["--max-steps", "2", "--licence", "CC0-1.0", *SMALL]
    first = call(pretrain, parent.path, *files, "-o", one, *words)
    assert first.exit_code == 0, first.output
    assert first.stdout.strip() == str(one / "final")
    assert "2 steps, 8 samples" in first.stderr
    second = call(
        finetune, one / "final", *files, "-o", two, "--max-steps", "2", "--lora",
        "--lora-rank", "2", *SMALL,
    )  # fmt: skip
    assert second.exit_code == 0, second.output
    made = Checkpoint.open(two / "final")
    assert made.provenance.stage == "finetuned"
    assert made.provenance.parents[0] == Checkpoint.open(one / "final").sha256
    assert [used.name for used in made.provenance.datasets] == ["train.json", "train.json"]
    assert [used.licence for used in made.provenance.datasets] == ["CC0-1.0", ""]
    again = call(finetune, one / "final", *files, "-o", two, "--resume")
    assert again.exit_code == 0 and again.stdout.strip() == str(two / "final")


def test_check_and_stats_cut_as_a_run_does(
    parent: Checkpoint, pictures: Path, tmp_path: Path
) -> None:
    """At the model's context, also where --max-length is more."""
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    long = [{**turns[0], "value": "Q" * (parent.context + 1)}, turns[1]]
    data = tmp_path / "long.json"
    data.write_text(json.dumps([{"id": "a", "conversations": [*turns, *long]}]))
    for command in (check, stats):
        words = ["--data", data, "--model", parent.path, "--json", tmp_path / "told.json"]
        made = call(command, *words, "--max-length", 10 * parent.context)
        assert made.exit_code == 0, made.output
        told = json.loads((tmp_path / "told.json").read_text())
        longest = told["lengths"]["longest"] if command is check else told["tokens"]
        assert longest < parent.context
    assert open_encoding(parent.path, None, 64).max_length == 64


def test_options_change_the_recipe_they_start_from() -> None:
    made = resolve("finetune", "llava-v1.5-7b", None, {"learning_rate": 1e-4, "seed": None})
    assert (made.learning_rate, made.batch_size, made.template) == (1e-4, 128, "v1")
    assert resolve("pretrain", None, None, {}) == Recipe()
    with pytest.raises(NevaError, match="no recipe is called 'gpt'"):
        resolve("pretrain", "gpt", None, {})
    with pytest.raises(NevaError, match="use `neva finetune`"):
        resolve("pretrain", None, Recipe(stage="finetune"), {})
    with pytest.raises(NevaError, match="batch_size is 0: use at least 1"):
        resolve("pretrain", None, None, {"batch_size": 0})


def test_epochs_win_over_the_steps_of_a_recipe() -> None:
    assert resolve("pretrain", "neva-llama2-7b", None, {}).max_steps == 2170
    made = resolve("pretrain", "neva-llama2-7b", None, {"epochs": 2.0, "max_steps": None})
    assert (made.epochs, made.max_steps) == (2.0, None)
    assert resolve("pretrain", None, made, {"epochs": 2.0}) == made  # the same when it is resumed
    assert resolve("pretrain", "neva-llama2-7b", None, {"max_steps": 9}).max_steps == 9
    with pytest.raises(NevaError, match=r"--epochs and --max-steps .*: give one"):
        resolve("pretrain", None, None, {"epochs": 2.0, "max_steps": 9})


def test_help_says_what_the_recipe_says() -> None:
    text = " ".join(call(finetune, "--help").output.replace("│", " ").split())
    assert "Peak learning rate of everything that learns." in text
    assert "--lora-rank" in text
    assert "--lora-rank" not in call(pretrain, "--help").output


def test_a_checkpoint_with_missing_tensors_leaves_nothing(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    import shutil

    from neva.model import read_tensors, write_tensors

    broken = tmp_path / "broken"
    shutil.copytree(parent.path, broken)
    tensors = dict(read_tensors(parent))
    del tensors["multi_modal_projector.linear_2.weight"]
    (broken / "model.safetensors").unlink()
    write_tensors(broken, tensors)
    words = [broken, "--data", data, "--images", pictures, "-o", tmp_path / "run"]
    result = call(pretrain, *words)
    assert isinstance(result.exception, NevaError)
    assert "multi_modal_projector.linear_2.weight" in str(result.exception)
    assert not (tmp_path / "run").exists()
    assert json.loads(data.read_text())


def test_cache_fills_and_names_what_is_broken(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    words = [parent.path, "--data", data, "--images", pictures]
    first = call(cache, *words, "--precision", "fp32")
    assert first.exit_code == 0 and "10 images in" in first.stderr
    again = call(cache, *words, "--precision", "fp32")
    assert "caching" not in again.stderr and "10 images in" in again.stderr
    broken = tmp_path / "broken.json"
    broken.write_text(data.read_text().replace('"3.png"', '"gone.png"'))
    result = call(cache, parent.path, "--data", broken, "--images", pictures)
    assert result.exit_code == 1 and "gone.png" in result.stdout

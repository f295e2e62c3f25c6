"""What a person sees of a run: the probe, the best checkpoint, trackers, the report."""

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from neva.errors import DataError, NevaError
from neva.model import Checkpoint, read_tensors
from neva.train.folder import RunFolder
from neva.train.loop import run
from neva.train.meter import Meter
from neva.train.peak import Peak
from neva.train.probe import add_answers
from neva.train.recipe import Recipe
from neva.train.report import write_report
from neva.train.story import read_lines, read_story
from neva.train.summary import Summary, finished

LEARNS = Recipe(
    stage="finetune",
    learning_rate=5e-3,
    batch_size=8,
    max_steps=60,
    warmup_ratio=0.1,
    max_length=256,
    row_tokens=512,
    threads=1,
    validation_share=0.3,
    validate_every=20,
    probe_every=30,
    track="tensorboard",
)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probe") / "probe.json"
    colours = ("red", "green", "blue")
    asked = [
        {"image": f"{n}.png", "question": "Which colour is it?", "answer": [colours[n % 3], "x"]}
        for n in range(4)
    ]
    path.write_text(json.dumps([*asked, {"question": "Are you <b>there</b>?"}]))
    return path


@pytest.fixture(scope="module")
def watched(
    parent: Checkpoint,
    data: Path,
    pictures: Path,
    questions: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Summary]:
    """One run that is watched by everything."""
    records = [r for r in json.loads(data.read_text()) if "image" in r]
    file = tmp_path_factory.mktemp("seen") / "seen.json"
    file.write_text(json.dumps(records))
    out = tmp_path_factory.mktemp("watched") / "run"
    return out, run(LEARNS, parent.path, [file], pictures, out, False, ["CC0-1.0"], questions)


def test_the_probe_sees_the_model_learn(watched: tuple[Path, Summary]) -> None:
    """Before the first step, every probe_every and at the end; greedy answers become right."""
    out, summary = watched
    story = read_story(out)
    assert [line["step"] for line in story.probes] == [0, 30, 60]
    shares = [line["probe"] for line in story.probes]
    assert shares[0] == 0 and shares[-1] == 1 and summary.probe == 1
    first, *_, silent = story.asked
    assert [step for step, _ in first.answers] == [0, 30, 60]
    assert first.answers[-1][1] == "red"
    assert Image.open(first.thumbnails[0]).size == (24, 20)
    assert silent.golds == () and silent.thumbnails == ()


def test_the_utilisation_is_the_flops_over_the_peak(watched: tuple[Path, Summary]) -> None:
    out, summary = watched
    story = read_story(out)
    peak = story.environment["peak"]
    assert peak["flops"] > 1e8 and peak["source"].startswith("measured: best of")
    for line in story.steps:
        seconds = line["samples"] / line["samples_per_second"]
        assert line["mfu"] == pytest.approx(line["flops"] / (seconds * peak["flops"]))
    assert summary.flops == pytest.approx(sum(line["flops"] for line in story.steps))
    assert summary.mfu == pytest.approx(summary.flops / (summary.seconds * peak["flops"]))
    assert "MFU" in summary.sentence


def test_no_more_than_the_peak_is_told(watched: tuple[Path, Summary]) -> None:
    """A peak that was measured on a busy CPU is below what the run does on a quiet one."""
    known = read_story(watched[0]).environment["peak"]
    meter = Meter(shape=None, recipe=LEARNS, adapter=0, peak=Peak(**known), devices=2)  # type: ignore[arg-type]
    most = 2 * known["flops"]
    assert meter.utilisation(most, 2.0) == pytest.approx(0.5)
    assert meter.utilisation(1.8 * most, 1.0) is None
    assert replace(meter, peak=None).utilisation(most, 2.0) is None


def test_tensorboard_has_every_step(watched: tuple[Path, Summary]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out, _ = watched
    read = accumulator.EventAccumulator(str(out / "tensorboard"))
    read.Reload()
    losses = [(e.step, pytest.approx(e.value)) for e in read.Scalars("train/loss")]
    assert losses == [(line["step"], line["loss"]) for line in read_story(out).steps]
    assert [e.step for e in read.Scalars("held out/probe")] == [0, 30, 60]
    assert {"speed/mfu", "speed/tokens_per_second"} <= set(read.Tags()["scalars"])


def test_the_best_checkpoint_is_kept_and_named(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """A rate that destroys the model late: the best is an early step, equal to stopping there."""
    recipe = LEARNS.with_values(
        track="", probe_every=0, max_steps=12, validate_every=4, learning_rate=0.9, batch_size=4,
        warmup_ratio=0.9, precision="fp32", grad_clip=0.0, save_every=4,
    )  # fmt: skip
    summary = run(recipe, parent.path, [data], pictures, tmp_path / "run")
    losses = {s["step"]: s["validation_loss"] for s in read_story(tmp_path / "run").validations}
    assert summary.best_step == min(losses, key=lambda step: losses[step]) < 12
    assert summary.best == tmp_path / "run" / "best" and str(summary.best) in summary.sentence
    assert summary.best_loss == losses[summary.best_step]
    best, final = (read_tensors(Checkpoint.open(tmp_path / "run" / n)) for n in ("best", "final"))
    assert any(best[name].tobytes() != final[name].tobytes() for name in final)
    again = finished(tmp_path / "run")
    assert again is not None and again.to_json() == summary.to_json()  # NaN equals nothing
    off = recipe.with_values(keep_best=False)
    assert run(off, parent.path, [data], pictures, tmp_path / "off").best is None
    assert not (tmp_path / "off" / "best").exists()


def test_watching_changes_nothing(
    watched: tuple[Path, Summary], parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """Probe, validation and trackers leave the weights bit for bit as they would have been."""
    out, _ = watched
    blind = LEARNS.with_values(track="", probe_every=0, validate_every=0, keep_best=False)
    seen = Path(read_story(out).inputs["data"][0])
    run(blind, parent.path, [seen], pictures, tmp_path / "run")
    one, two = (read_tensors(Checkpoint.open(p / "final")) for p in (out, tmp_path / "run"))
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)


def test_answers_with_any_letters_are_read_back(tmp_path: Path) -> None:
    """U+2028, U+0085 and the like end a line for Python, and none of JSON."""
    said = ["one\u2028two", "three\x85four\x0b\x1c"]
    folder = RunFolder(tmp_path, fresh=False)
    folder.probe.mkdir()
    add_answers(folder, 1, said)
    add_answers(folder, 2, said)
    with (folder.probe / "answers.jsonl").open("a") as file:
        file.write('{"step": 3, "ans')
    assert list(read_lines(folder.probe / "answers.jsonl")) == [
        {"step": step, "answers": said} for step in (1, 2)
    ]


class Elements(HTMLParser):
    """Every start tag, every address, every word of a page; refuses what is not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag not in ("meta", "img", "br", "!doctype"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_report_tells_it_all_and_fetches_nothing(watched: tuple[Path, Summary]) -> None:
    out, _ = watched
    text = (out / "report.html").read_text()
    page = Elements(text)
    said = " ".join(page.words)
    assert page.tags.count("svg") == 8
    assert page.tags.count("img") == 4
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert not re.search(r"https?://|url\(|@import", text)
    for words in ("complete", "Are you <b>there</b>?", "CC0-1.0", "seen.json", "measured: best of",
                  "Peak learning rate of everything that learns.", "after step 60"):  # fmt: skip
        assert words in said, words
    before = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert write_report(out) == out / "report.html"
    assert (out / "report.html").read_bytes() == before


def test_trouble_stands_in_the_report(
    parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    """Skipped samples and jumps by name; a run that was killed has a report too."""
    records = json.loads(data.read_text())
    records[3]["image"] = "missing.png"
    file = tmp_path / "some.json"
    file.write_text(json.dumps(records))
    recipe = LEARNS.with_values(
        track="", max_bad_share=0.5, max_steps=40, validation_share=0.0, learning_rate=0.9,
        spike_factor=1.01, grad_clip=0.0, batch_size=2, warmup_ratio=0.9,
    )  # fmt: skip
    out = tmp_path / "run"
    run(recipe.with_values(validate_every=0), parent.path, [file], pictures, out)
    said = " ".join(Elements((out / "report.html").read_text()).words)
    assert "sample-3" in said and "missing.png" in said and "spike" in said
    (out / "summary.json").unlink()
    with (out / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 41, "lo')
    write_report(out, tmp_path / "other.html")
    said = " ".join(Elements((tmp_path / "other.html").read_text()).words)
    assert "not finished" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "cannot be read as JSON"),
        ("[]", "not empty"),
        ('[{"question": 3}]', 'question 1: it is no object with a "question"'),
        ('[{"question": "q", "answr": "a"}]', "question 1: unknown key 'answr'"),
        ('[{"question": "q", "answer": [1]}]', '"answer" must be a text'),
        ('[{"question": "q", "image": "gone.png"}]', "gone.png"),
        (json.dumps([{"question": "long " * 900}]), "shorten it"),
    ],
)
def test_a_bad_probe_ends_a_run_before_it_begins(
    content: str, words: str, parent: Checkpoint, data: Path, pictures: Path, tmp_path: Path
) -> None:
    probe = tmp_path / "probe.json"
    probe.write_text(content)
    with pytest.raises(DataError, match=re.escape(words)):
        run(LEARNS, parent.path, [data], pictures, tmp_path / "run", probe=probe)
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_there_is_named_with_its_extra(
    parent: Checkpoint,
    data: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NevaError, match="No tracker is called 'mlflow'"):
        run(LEARNS.with_values(track="mlflow"), parent.path, [data], pictures, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(NevaError, match=r"--track wandb .*pip install 'neva-vlm\[wandb\]'"):
        run(LEARNS.with_values(track="wandb"), parent.path, [data], pictures, tmp_path / "run")
    with pytest.raises(NevaError, match="holds no run"):
        write_report(tmp_path)
    assert not (tmp_path / "run").exists()

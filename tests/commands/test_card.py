"""`neva card`: what it tells is in the checkpoint, the results or the notes, or is said to lack."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from neva.cli import main
from neva.commands.card import CARD_NOTES
from neva.deploy.beside import gather
from neva.deploy.card import card, parameters
from neva.deploy.chart import bars, draw_chart
from neva.deploy.notes import SUBCARDS, UNSAID, Notes, read_notes
from neva.deploy.sheet import HIT, MISS, contact_sheet, fitting, save_sheet, wrapped
from neva.errors import DataError
from neva.evaluate import Item
from neva.model.checkpoint import Checkpoint
from neva.model.provenance import DatasetUsed

RESULT = {
    "task": "easy-vqa",
    "asked": {"suffix": "", "engine": "openvino", "precision": "int8"},
    "questions": 100,
    "of": 9673,
    "metrics": {"accuracy": 81.25, "accuracy.shape": 40.0, "n.shape": 2.0},
    "beside": {"text": {"accuracy": 60.5}},
    "floor": {"accuracy": 66.94},
    "interval_95": [72.0, 88.0],
}


@pytest.fixture
def trained(checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with two data sets on record."""
    folder = Path(copytree(checkpoint, tmp_path / "trained"))
    opened = Checkpoint.open(folder)
    used = (
        DatasetUsed("LLaVA-Instruct-150K", "1", "ab" * 32, "CC-BY-NC-4.0", 157712, 3, 1.0, 3200),
        DatasetUsed("easy-vqa", "1.0", "cd" * 32, "MIT", 38575),
    )
    replace(opened.provenance, datasets=used, recipe={"learning_rate": 2e-5}).write(folder)
    return folder


def test_tells_what_the_checkpoint_holds(trained: Path) -> None:
    opened = Checkpoint.open(trained)
    text = card(opened, [RESULT], Notes("tiny", licence="Apache-2.0"))
    assert text.startswith("# tiny\n")
    assert opened.sha256 in text
    row = "| LLaVA-Instruct-150K | 1 | CC-BY-NC-4.0 | 157,712 | 3,200 | 3 | `abababababababab` |"
    assert row in text
    assert "| easy-vqa | 1.0 | MIT | 38,575 |  | 0 | `cdcdcdcdcdcdcdcd` |" in text
    assert "| Non-commercial training data | LLaVA-Instruct-150K |" in text
    terms = "Not for commercial use: it learned from LLaVA-Instruct-150K (CC-BY-NC-4.0)."
    assert terms in text and opened.provenance.non_commercial == terms
    assert "| learning_rate | 2e-05 |" in text
    assert "| accuracy | 81.25 | 60.50 | 66.94 |" in text
    assert "| accuracy.shape (2) | 40.00 |" in text
    assert "n.shape" not in text
    assert f"{sum(parameters(opened).values()):,}" in text
    assert UNSAID in text


def test_counts_every_parameter(checkpoint: Path) -> None:
    from safetensors import safe_open

    opened = Checkpoint.open(checkpoint)
    total = 0
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, "np") as file:  # type: ignore[no-untyped-call]
            total += sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert sum(parameters(opened).values()) == total
    assert parameters(opened)["projector"] == 48 * 64 + 64 + 64 * 64 + 64


def test_says_what_is_not_known(checkpoint: Path) -> None:
    text = card(Checkpoint.open(checkpoint), [], Notes("bare"))
    assert "No data set is recorded" in text
    assert "Not evaluated" in text
    assert f"| Licence | {UNSAID} |" in text


def test_a_bar_does_not_break_a_table(checkpoint: Path) -> None:
    notes = Notes("x", fields={"Bias": {"Measures | taken": "a\nb"}})
    assert "| Measures \\| taken | a b |" in card(Checkpoint.open(checkpoint), [], notes)


@pytest.mark.parametrize(
    ("option", "content", "says"),
    [
        ("--result", "{}", "is not a result of `neva eval`"),
        ("--result", "{", "broken JSON"),
        (
            "--notes",
            '{"nmae": "x"}',
            "evaluation, hardware, speed, ethics and fields are known",
        ),
        ("--notes", '{"fields": {"Basi": {}}}', "no subcard 'Basi'"),
        ("--notes", '{"fields": {"Bias": "none"}}', "fields is {subcard"),
        ("--notes", '{"licence": 3}', "licence must be text"),
        ("--notes", '{"sources": [{"nmae": "x"}]}', "a source has name, version"),
        ("--notes", '{"references": ["x"]}', "a reference is [title, address]"),
    ],
)
def test_bad_files_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path, option: str, content: str, says: str,
) -> None:  # fmt: skip
    file = tmp_path / "given.json"
    file.write_text(content)
    out = tmp_path / "card.md"
    words = ["neva", "card", checkpoint, option, file, "-o", out]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_writes_the_file(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(RESULT))
    (tmp_path / "n.json").write_text('{"name": "named", "licence": "MIT"}')
    out = tmp_path / "card.md"
    given = ["--result", tmp_path / "r.json", "--notes", tmp_path / "n.json", "-o", out]
    monkeypatch.setattr(sys, "argv", ["neva", "card", str(checkpoint), *map(str, given)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert out.read_text().startswith("# named\n")
    assert "### easy-vqa" in out.read_text()


def test_the_default_models_notes_are_whole_and_true_to_the_sources() -> None:
    from zoo.sources import SOURCES

    notes = read_notes(CARD_NOTES, "unnamed")
    assert notes.name == "neva-nano"
    for title, fields in SUBCARDS.items():
        assert set(notes.fields[title]) >= set(fields)
    told = {one["name"]: one for one in notes.sources}
    for group in [one for one in notes.sources if ": " in one["name"]]:
        scope, members = group["name"].split(": ")
        told |= {scope + member: group for member in members.split(", ")}
    for source in SOURCES:
        mine = told[source.name]
        assert (mine["version"], mine["licence"], mine["artist"]) == (
            source.version, source.licence, source.artist,
        )  # fmt: skip
        assert mine["use"].startswith("training") == (source.use == "train"), source.name
    assert "never trained on" in told["tuxpaint-stamps-default"]["use"]
    assert all(one["licence"] for one in notes.sources)


def test_every_field_of_the_manner_is_there(checkpoint: Path) -> None:
    text = card(Checkpoint.open(checkpoint), [RESULT], read_notes(CARD_NOTES, "x"))
    for heading in ("References", "Model architecture", "Input", "Output", "Software integration",
                    "Training data", "Inference", "Evaluation", "Ethical considerations",
                    "Explainability", "Bias", "Privacy", "Safety & Security",
                    "Prototype"):  # fmt: skip
        assert f"\n## {heading}\n" in text
    assert (
        "| @iconify-json/twemoji | 1.2.5 | CC-BY-4.0 | Twitter | training | 2,104 drawings |"
        in text
    )
    assert UNSAID not in text.split("## Explainability")[1]
    assert "### Pretraining data set" in text and "### Finetuning data set" in text
    for language in ("python", "javascript", "bash"):
        assert f"\n```{language}\n" in text.split("## Prototype")[1]


def test_chart_has_every_headline_with_its_baselines(tmp_path: Path) -> None:
    other = RESULT | {"task": "openmoji", "headline": {"name": "accuracy", "value": 81.25}}
    assert bars([RESULT, other])[:4] == [
        ("easy-vqa\naccuracy", "score", 81.25),
        ("easy-vqa\naccuracy", "text", 60.5),
        ("easy-vqa\naccuracy", "no model", 66.94),
        ("openmoji\naccuracy", "score", 81.25),
    ]
    pytest.importorskip("matplotlib")
    assert draw_chart([RESULT, other], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 600
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0x2F, 0x6F, 0x4F), (0xC9, 0x8A, 0x2B), (0x9A, 0xA0, 0xA6)} <= colours
    assert not draw_chart([], tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_baselines_stand_beside_their_score() -> None:
    score = RESULT | {"asked": RESULT["asked"] | {"sha256": "ab", "baseline": "none"}}  # type: ignore[operator]
    fewer = score | {"asked": {"sha256": "ab", "baseline": "shuffled"}, "questions": 50}
    fewer |= {"metrics": {"accuracy": 12.0}}
    alone = fewer | {"task": "scenes"}
    joined, left = gather([fewer, score, alone], {"sha256": "ab"})
    assert joined["beside"] == {"text": {"accuracy": 60.5}, "shuffled, 50": {"accuracy": 12.0}}
    assert joined["questions"] == 100
    assert left is alone
    assert ("easy-vqa\naccuracy", "shuffled", 12.0) in bars([joined])
    with pytest.raises(DataError, match="is of the model ab, not of cd; run `neva eval easy-vqa`"):
        gather([score], {"sha256": "cd"})
    served = score | {"asked": {"url": "http://one", "weights": "ab"}}
    assert gather([served], {"sha256": "cd", "weights": "ab"}) == [served]
    with pytest.raises(DataError, match="is of the model ab, not of ef"):
        gather([served], {"sha256": "cd", "weights": "ef"})
    with pytest.raises(DataError, match="two results of easy-vqa with the baseline 'none'"):
        gather([score, score])


@pytest.mark.parametrize("what", ["suffix", "system", "data"])
def test_a_baseline_that_was_asked_otherwise_is_refused(what: str) -> None:
    score = RESULT | {"asked": {"baseline": "none", what: "this"}}
    blind = RESULT | {"asked": {"baseline": "text", what: "that"}}
    with pytest.raises(DataError, match=f"'text' of easy-vqa has {what} 'that', its score 'this'"):
        gather([score, blind])
    assert gather([score, RESULT | {"asked": {"baseline": "text"}}]), "older results lack it"


def test_a_figure_tells_what_it_leaves_out(checkpoint: Path) -> None:
    opened = Checkpoint.open(checkpoint)
    asked = {"suffix": "", "engine": "remote", "precision": "unknown", "url": "http://one"}
    told = RESULT | {"asked": asked | {"system": "Be brief."}, "errors": 7}
    text = card(opened, [told], Notes("x"))
    assert "System text: `'Be brief.'`." in text
    assert "7 questions could not be asked, and earned nothing." in text
    assert "a server that does not tell whether it serves these weights" in text
    assert "http://one" not in text, "an address is nobody's business"
    known = RESULT | {"asked": asked | {"weights": opened.fingerprint}, "errors": 0}
    for silent in ("System text", "could not be asked", "does not tell whether"):
        assert silent not in card(opened, [known], Notes("x"))


def test_a_result_of_another_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path,
) -> None:  # fmt: skip
    other = RESULT | {"asked": RESULT["asked"] | {"sha256": "cd" * 32}}  # type: ignore[operator]
    (tmp_path / "r.json").write_text(json.dumps(other))
    words = ["neva", "card", str(checkpoint), "--result", str(tmp_path / "r.json")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert "is of the model cdcdcdcdcdcd, not of" in capsys.readouterr().err


@pytest.mark.parametrize("wish", ["Title", "Title=", "Title=missing.png"])
def test_a_picture_must_be_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    checkpoint: Path, tmp_path: Path, wish: str,
) -> None:  # fmt: skip
    words = ["neva", "card", str(checkpoint), "--picture", wish, "-o", str(tmp_path / "c.md")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert "give TITLE=FILE" in capsys.readouterr().err
    assert not (tmp_path / "c.md").exists()


@pytest.fixture
def asked(tmp_path: Path) -> tuple[dict[str, object], list[Item]]:
    """Five questions about five pictures of one colour each, two answered right."""
    items, answers = [], []
    for number, colour in enumerate(("red", "lime", "blue", "yellow", "cyan")):
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (40, 30), colour).save(path)
        items.append(Item(f"q{number}", f"What <colour> is {number}?", path, (colour,)))
        right = number < 2
        answers.append(
            {
                "id": f"q{number}",
                "question": items[-1].question,
                "gold": colour,
                "answer": colour if right else "wrong " * 30,
                "credit": float(right),
            }
        )
    return RESULT | {"answers": answers}, items  # fmt: skip


def test_contact_sheet_shows_hits_above_misses(
    asked: tuple[dict[str, object], list[Item]],
) -> None:
    result, items = asked
    image = contact_sheet(result, items)
    pixels = np.array(image)

    def rows(colour: str) -> NDArray[np.intp]:
        return np.nonzero((pixels == ImageColor.getrgb(colour)).all(axis=2).sum(axis=1) > 20)[0]

    for colour in ("red", "lime", "blue", "yellow", "cyan"):
        assert len(rows(colour)) > 60, colour
    assert rows("lime").max() < rows("blue").min()
    assert rows(HIT).max() < rows(MISS).min()
    assert len(np.unique(rows("red"))) < 132  # its own proportions, within its tile
    assert contact_sheet(result, items, most=1).height < image.height + 1


def test_contact_sheet_refuses_other_files_and_the_blind(
    asked: tuple[dict[str, object], list[Item]],
) -> None:
    result, items = asked
    with pytest.raises(DataError, match="'q0' is not in these files"):
        contact_sheet(result, items[1:])
    blind = result | {"asked": {"baseline": "text"}}
    with pytest.raises(DataError, match="without its pictures"):
        contact_sheet(blind, items)


def test_contact_sheet_is_the_seeds(asked: tuple[dict[str, object], list[Item]]) -> None:
    result, items = asked
    sheets = [np.array(contact_sheet(result, items, 2, seed)).tobytes() for seed in range(8)]
    assert sheets[0] == np.array(contact_sheet(result, items, 2, 0)).tobytes()
    assert len(set(sheets)) > 1


def test_one_question_of_all_is_told_once(asked: tuple[dict[str, object], list[Item]]) -> None:
    result, items = asked
    answers = result["answers"]
    assert isinstance(answers, list)
    same = result | {"answers": [one | {"question": "What is this?"} for one in answers]}
    assert contact_sheet(same, items).height < contact_sheet(result, items).height


def test_a_sheet_is_saved_within_its_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    save_sheet(Image.fromarray(noise), tmp_path / "a.png", 9_000)
    assert (tmp_path / "a.png").stat().st_size <= 9_000
    save_sheet(Image.new("RGB", (300, 200), "teal"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (300, 200)
        assert image.convert("RGB").getcolors() == [(60_000, ImageColor.getrgb("teal"))]


def test_lines_fit_their_tile() -> None:
    assert fitting("short", 132) == "short"
    assert fitting("long " * 40, 132).endswith("...")
    lines = wrapped("Is the red circle to the left of the blue square or not at all, say?", 132, 2)
    assert len(lines) == 2
    assert lines[0].startswith("Is the red circle")
    assert wrapped("", 132, 2) == []


def test_pictures_stand_beside_the_card(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path
) -> None:
    package = tmp_path / "easy"
    for split in ("train", "test"):
        (package / split / "images").mkdir(parents=True)
        Image.new("RGB", (64, 64), "teal").save(package / split / "images" / "0.png")
        questions = [["what shape is it?", "circle", 0], ["is it teal?", "yes", 0]]
        (package / split / "questions.json").write_text(json.dumps(questions))
    answers = [{"id": f"test-{n}", "question": "?", "gold": "circle", "answer": "circle",
                "credit": 1.0 - n} for n in range(2)]  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(RESULT | {"answers": answers}))
    out = tmp_path / "card.md"
    words = ["neva", "card", checkpoint, "--result", tmp_path / "r.json", "-o", out]
    (tmp_path / "plots").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "plots" / "p.png")
    words += ["--picture", f"A plot={tmp_path / 'plots' / 'p.png'}", "--tiles", 1]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--sheet", f"easy-vqa={package}"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert "![Hits and misses of easy-vqa](card.easy-vqa.png)" in out.read_text()
    assert "![A plot](plots/p.png)" in out.read_text()
    with Image.open(tmp_path / "card.easy-vqa.png") as image:
        assert image.width > 800

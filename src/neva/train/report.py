"""`report.html`: a run on one page, from the files of its folder, for whoever asks how it went.

Self-contained: plots, thumbnails, style and script are inside, and nothing is fetched. Written at
every probe and checkpoint and at the end; `neva report RUN` writes it again. Torch-free.
"""

import base64
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from neva.train.charts import Point, Series, chart, running_mean
from neva.train.questions import Question
from neva.train.recipe import Recipe, describe
from neva.train.recipes import DEFAULTS
from neva.train.story import Asked, Line, Story, read_story

NAME = "report.html"
MOST_ROWS = 200  # of skipped samples and of other events; the metrics have them all


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder, all or nothing, and say where. NevaError: no run there."""
    text, path = page(read_story(run)), out or run / NAME
    aside = path.with_name(f".writing-{path.name}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
    return path


def page(story: Story) -> str:
    """The whole HTML document."""
    room = files("neva.train")
    style, script = (room.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    title = f"{story.path.resolve().name}: {story.recipe['stage']}"
    parts = [
        _head(story, title), _tiles(story), _charts(story), _samples(story), _troubles(story),
        _data(story), _recipe(story), _environment(story),
    ]  # fmt: skip
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body>{''.join(parts)}<script>{script}</script></body></html>\n"
    )


def _head(story: Story, title: str) -> str:
    words, mood = _status(story)
    return (
        f"<h1>{escape(title)}<span class='status {mood}'>{escape(words)}</span></h1>"
        f"<p class=soft>from <code>{escape(str(story.inputs.get('checkpoint')))}</code></p>"
    )


def _status(story: Story) -> tuple[str, str]:
    """What became of the run, and the class it is shown in."""
    if story.summary is None or story.summary["steps"] < (story.steps or [{"step": 0}])[-1]["step"]:
        return "not finished", ""
    if story.summary.get("stopped_by"):
        return f"stopped by {story.summary['stopped_by']}", "bad"
    return "complete", "good"


def _tiles(story: Story) -> str:
    """The figures that people ask for first."""
    tiles = "".join(
        f"<div class=tile><b>{escape(value)}</b><span>{escape(name)}</span></div>"
        for name, value in _figures(story)
    )
    return f"<div class=tiles>{tiles}</div>"


def _figures(story: Story) -> Iterator[tuple[str, str]]:
    steps, told = story.steps, story.summary or {}
    if not steps:
        return
    seconds, last = steps[-1]["seconds"], steps[-1]
    yield "steps", f"{last['step']:,}"
    losses = running_mean(_points(steps, "loss"))
    if losses:
        yield "loss, running mean", f"{losses[-1][1]:.4f}"
    if story.validations:
        yield "held-out loss", f"{story.validations[-1]['validation_loss']:.4f}"
    if len(story.validations) > 1:
        best = min(story.validations, key=lambda line: float(line["validation_loss"]))
        yield f"best held-out loss, step {best['step']}", f"{best['validation_loss']:.4f}"
    if story.probes:
        yield "probe answered right", f"{100 * story.probes[-1]['probe']:.0f}%"
    samples, tokens = sum(s["samples"] for s in steps), sum(s["tokens"] for s in steps)
    timed = [s for s in steps if s["samples_per_second"]]  # a step may have broken samples only
    spent = sum(s["samples"] / s["samples_per_second"] for s in timed)
    if spent:
        yield "samples/s", f"{samples / spent:,.1f}"
        yield "tokens/s", f"{tokens / spent:,.0f}"
        waited = sum(s["data_share"] * s["samples"] / s["samples_per_second"] for s in timed)
        yield "waiting for data", f"{100 * waited / spent:.0f}%"
    if told.get("mfu") is not None:
        yield "MFU", f"{100 * told['mfu']:.1f}%"
    elif last.get("mfu") is not None:
        yield "MFU, last step", f"{100 * last['mfu']:.1f}%"
    yield "peak memory", f"{last['memory'] / 2**30:.2f} GiB"
    yield "time", _duration(seconds)
    yield "samples skipped", f"{told.get('skipped', len(story.events('skipped'))):,}"


def _charts(story: Story) -> str:
    steps = story.steps
    loss = _points(steps, "loss")
    spikes = [line["step"] for line in story.events("spike", "not finite")]
    drawn = [
        chart(
            "Loss per supervised token",
            [
                Series("step", loss, "faint"),
                Series("running mean", running_mean(loss)),
                Series("held out", _points(story.validations, "validation_loss"), "dots", "b"),
            ],
            spikes,
        ),
        chart("Learning rate", [Series("rate", _points(steps, "learning_rate"))]),
        chart("Samples/s", _with_mean(_points(steps, "samples_per_second"))),
        chart("Tokens/s", _with_mean(_points(steps, "tokens_per_second"))),
        chart("MFU, % of the peak", _with_mean(_points(steps, "mfu", 100))),
        chart("Waiting for data, % of the time", _with_mean(_points(steps, "data_share", 100))),
        chart("Gradient norm", _with_mean(_points(steps, "gradient_norm"))),
        chart(
            "Probe answered right, %",
            [Series("probe", _points(story.probes, "probe", 100), "dots")],
        ),
    ]
    marks = "<p class=soft>Red lines: steps that jumped or were left out, see below.</p>"
    return f"<h2>Course</h2>{marks if spikes else ''}<div class=charts>{''.join(drawn)}</div>"


def _with_mean(points: Sequence[Point]) -> list[Series]:
    return [Series("step", points, "faint"), Series("running mean", running_mean(points))]


def _points(lines: Sequence[Line], name: str, scale: float = 1.0) -> list[Point]:
    return [(x["step"], scale * x[name]) for x in lines if x.get(name) is not None]


def _samples(story: Story) -> str:
    """The probe's questions with their pictures and what the model says."""
    if not story.asked or not story.asked[0].answers:
        return ""
    step = story.asked[0].answers[-1][0]
    cards = "".join(_card(asked) for asked in story.asked)
    return f"<h2>What it answers after step {step:,}</h2><div class=samples>{cards}</div>"


def _card(asked: Asked) -> str:
    pictures = "".join(f"<img alt='' src='{_inline(path)}'>" for path in asked.thumbnails)
    *before, (_, last) = asked.answers
    earlier = "".join(f"<br>{step:,}: {_said(asked, answer)}" for step, answer in reversed(before))
    older = f"<details><summary>earlier</summary><small>{earlier[4:]}</small></details>"
    gold = f"<small>right: {escape(', '.join(asked.golds))}</small>" if asked.golds else ""
    return (
        f"<div class=sample>{pictures}<div><p>{escape(asked.text)}</p>"
        f"<p><b>{_said(asked, last)}</b></p>{gold}{older if before else ''}</div></div>"
    )


def _said(asked: Asked, answer: str) -> str:
    good = Question(asked.text, golds=asked.golds).judge(answer)
    css = {None: "", True: "good", False: "bad"}[good]
    return f"<span class='{css}'>{escape(answer) or '(nothing)'}</span>"


def _inline(path: Path) -> str:
    """A thumbnail as a data URI; nothing where it is gone."""
    data = path.read_bytes() if path.is_file() else b""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _troubles(story: Story) -> str:
    """Steps that jumped or were left out, and samples that were skipped, by name."""
    jumps, skipped = story.events("spike", "not finite"), story.events("skipped")
    out = ["<h2>Trouble</h2>"]
    if not jumps and not skipped:
        out.append("<p>None: no step jumped or was left out, no sample was skipped.</p>")
    if jumps:
        rows = [
            (f"{e['step']:,}", e["event"], _levels(e), ", ".join(map(str, e["samples"])))
            for e in jumps
        ]
        out.append(_table(("step", "what", "loss", "samples of the batch"), rows))
    if skipped:
        rows3 = [(", ".join(map(str, e["samples"])), f"{e['step']:,}", e["why"]) for e in skipped]
        out.append(f"<h3>{len(skipped):,} samples skipped</h3>")
        out.append(_table(("sample", "step", "why"), rows3))
    return "".join(out)


def _levels(event: Line) -> str:
    levels = event.get("levels")
    return f"{levels['loss']:.3f}, mean {levels['mean']:.3f}" if levels else ""


def _data(story: Story) -> str:
    """What it learned from, this stage and those before it, with licences."""
    rows = [
        (stage, used["name"], f"{used['samples']:,}", f"{used['skipped']:,}",
         used["licence"] or "not stated", used["sha256"][:12])
        for stage, key in (("this run", "datasets"), ("before", "parents_datasets"))
        for used in story.inputs.get(key, ())
    ]  # fmt: skip
    head = ("stage", "file", "records", "unreadable", "licence", "sha256")
    return f"<h2>Data and licences</h2>{_table(head, rows)}" if rows else ""


def _recipe(story: Story) -> str:
    usual = DEFAULTS[story.recipe["stage"]].to_json()
    known = Recipe().to_json()
    rows = [
        (name, _plain(value), describe(name) if name in known else "")
        for name, value in story.recipe.items()
    ]
    changed = [usual.get(name) != value for name, value in story.recipe.items()]
    words = "<p class=soft>Bold: not the default of this stage.</p>"
    return f"<h2>Recipe</h2>{words}{_table(('field', 'value', 'meaning'), rows, changed)}"


def _environment(story: Story) -> str:
    rows = [
        (key, _plain(value))
        for name, given in story.environment.items()
        for key, value in _flat(name, given)
    ]
    return f"<h2>Environment</h2>{_table(('what', 'value'), rows)}" if rows else ""


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{name}: {key}", inner) for key, inner in value.items()]
    return [(name, " ".join(map(str, value)) if isinstance(value, list) else value)]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.3e}"
    return "unset" if value in (None, "") else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], changed: Sequence[bool] = ()) -> str:
    """A table of escaped cells; at most MOST_ROWS rows, and how many more there are."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    marks = [*changed, *[False] * (len(rows) - len(changed))]
    body = "".join(
        f"<tr{' class=changed' if mark else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row, mark in list(zip(rows, marks, strict=True))[:MOST_ROWS]
    )
    more = len(rows) - MOST_ROWS
    rest = f"<p class=soft>and {more:,} more, in metrics.jsonl</p>" if more > 0 else ""
    return f"<div class=wide><table><tr>{top}</tr>{body}</table></div>{rest}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"

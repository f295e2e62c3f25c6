"""The evaluation as one HTML file that a person can look at: figures, confusions, hits and misses.

Nothing is loaded from elsewhere; pictures are small PNGs inside the file.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from neva.evaluate.report import Report, columns, commonest_misses, confusion, rows
from neva.evaluate.task import Judged, spread
from neva.images import read_image

THUMBNAIL = 128
EXAMPLES = 24

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #8883 }
td:first-child, th:first-child { text-align: left }
.matrix td { min-width: 2.2rem } .scroll { overflow-x: auto }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { font-size: .85rem; overflow-wrap: anywhere }
img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #fff; border-radius: .4rem }
.miss { color: light-dark(#b11, #f77) } .hit { color: light-dark(#162, #5c7) }
small { opacity: .7 }
"""


def page(report: Report) -> str:
    """The whole HTML document."""
    blind = report.asked.get("baseline", "none")
    without = "" if blind == "none" else f", baseline {blind}"
    title = f"{report.task}{without}: {report.metrics[report.headline]:.2f}"
    low, high = report.interval
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(report.summary)} "
        f"{len(report.judged)} of {report.total} questions in {report.seconds:.0f} s; 95% interval "
        f"of the mean credit {low:.1f} to {high:.1f}; {report.errors} could not be asked.</p>",
        figures(report),
        matrix(report.judged),
        misses(report.judged),
        gallery("Misses", [one for one in report.judged if one.credit == 0]),
        gallery("Hits", [one for one in report.judged if one.credit > 0]),
        asked(report),
    ]
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    meta = "<meta name=viewport content='width=device-width, initial-scale=1'>"
    return f"<!doctype html><html lang=en><head>{head}{meta}</head><body>{''.join(parts)}</body>\n"


def table(header: Sequence[str], lines: Sequence[Sequence[str]], css: str = "") -> str:
    """An HTML table of escaped cells."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines
    )
    return f"<div class=scroll><table class='{css}'><tr>{top}</tr>{body}</table></div>"


def figures(report: Report) -> str:
    """The table of figures with the baselines beside them."""
    return "<h2>Figures</h2>" + table(columns(report), rows(report))


def matrix(judged: Sequence[Judged]) -> str:
    """The confusion table, where there are few true answers."""
    found = confusion(judged)
    if found is None:
        return ""
    golds, counts = found
    lines = [
        [gold, *(str(count) if count else "·" for count in line)]
        for gold, line in zip(golds, counts, strict=True)
    ]
    header = ["true \\ said", *golds, "other"]
    return "<h2>Confusions</h2>" + table(header, lines, "matrix")


def misses(judged: Sequence[Judged]) -> str:
    """The commonest mistakes."""
    lines = [(gold, read, str(count)) for gold, read, count in commonest_misses(judged)]
    if not lines:
        return ""
    return "<h2>Commonest mistakes</h2>" + table(("true", "said", "times"), lines)


def gallery(title: str, judged: Sequence[Judged]) -> str:
    """Some of them, at even distances, with their pictures."""
    by_id = {one.item.id: one for one in judged}
    chosen = [by_id[item.id] for item in spread([one.item for one in judged], EXAMPLES)]
    if not chosen:
        return ""
    tiles = "".join(tile(one) for one in chosen)
    return f"<h2>{title} ({len(judged)})</h2><div class=gallery>{tiles}</div>"


def tile(one: Judged) -> str:
    """One example: picture, question, answer, truth."""
    picture = f"<img alt='' src='{thumbnail(one.item.image)}'>" if one.item.image else ""
    css = "hit" if one.credit > 0 else "miss"
    said = escape(one.error or one.answer or "(nothing)")
    return (
        f"<figure>{picture}<figcaption>{escape(one.item.question)}<br>"
        f"<b class={css}>{said}</b><br><small>{escape(one.item.golds[0])} · "
        f"{escape(one.item.id)}</small></figcaption></figure>"
    )


def thumbnail(path: Path) -> str:
    """The picture as a small PNG in a data URI."""
    small = Image.fromarray(read_image(path).array)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def asked(report: Report) -> str:
    """What was run, to repeat it."""
    lines = [(key, repr(value)) for key, value in report.asked.items()]
    return "<h2>How it was asked</h2>" + table(("setting", "value"), lines)

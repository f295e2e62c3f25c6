"""Naming Tux Paint's stamps: things an unseen hand drew or photographed, by their English captions.

`data` is the folder `stamps` of Debian's tuxpaint-stamps-default (GPL-2: a judge, never trained
on). A stamp is a picture beside a .txt file, whose first line is the English caption. Kinds are
"photo", "drawing" and "symbol" (letters, digits, coins, notes: the folder `symbols`). "photo" is a
cheap criterion, checked by eye on a contact sheet to hold for about nine of ten: a PNG without an
SVG beside it, in a folder of PHOTO_FOLDERS and in none of DRAWN_FOLDERS.

What counts (`names_of`): of the caption's first clause without its article or "a pair of", the
noun phrase before any preposition, participle or verb. Right are that phrase and the clause, both
also without some or all of the modifiers before the phrase's last word, its head noun: "great blue
heron", "blue heron" and "heron"; of "the Spanish letter n with a tilde" also "letter n with a
tilde" and "letter n"; of "a hibiscus flower" also "hibiscus". Of "X or Y" either counts. A plural
counts as its singular, and a compound however it is joined ("sail boat", "sailboat"). The answer
must be one of these as a whole: neither a longer sentence nor a synonym counts. Captions that are
no noun phrase ("Say cheese!") are left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neva.cachedir import cache_dir
from neva.errors import DataError
from neva.evaluate.files import folder
from neva.evaluate.normalise import ARTICLES, NUMBERS, OPENINGS, strip_marks
from neva.evaluate.svg import render, write_once
from neva.evaluate.task import Item, Judged, accuracy, percent

WIDTH = 256
PHOTO_FOLDERS = frozenset(("animals", "food", "hobbies", "household", "medical", "military"))
PHOTO_FOLDERS |= {"plants", "space", "sports", "town", "vehicles"}
DRAWN_FOLDERS = frozenset(("cartoon", "flags", "roadsigns", "symbols"))

QUOTES = re.compile(r'[“”"‘]')
CLAUSE = re.compile(r"[.!?,;:(—–…]")
MEASURE = re.compile(
    r"^(?:pair|couple|bunch|cluster|piece|slice|loaf|head|bowl|cup|glass|bottle|set|bag|string"
    r"|quarter)s? of "
)
OPENERS = ("a ", "an ", "the ", "some ", "another ", "our ", "two ", "three ", "four ")
PREPOSITIONS = """of with from in inside on for to at as by that which who when or under over
before after into onto around near like without through ahead"""
VERBS = """is are was were has have could means lets must said resembles carry carries stands
says makes holds used called worn made playing dancing making sitting drinking eating singing
jumping swimming holding wearing covered hatched"""
ENDS = frozenset((PREPOSITIONS + " " + VERBS).split())
NO_NAME = "happy sad eat say enter down no dead not less greater times it's"
NOT_NOUNS = frozenset(NO_NAME.split(" "))
EITHER = " or "
CLASSIFIERS = frozenset(("fruit", "flower"))  # "an avocado fruit" is an avocado
ALWAYS_PLURAL = frozenset(["glasses", "sunglasses", "pants", "jeans", "scissors", "pliers"])
MOST_WORDS = 4  # of a caption without an article


@dataclass(frozen=True)
class Stamps:
    """Names of stamps; `exact` is the share of answers that are the whole clause."""

    name: str = "stamps"
    summary: str = "Naming Tux Paint's stamps; the caption's noun phrase or head noun counts."
    headline: str = "accuracy"
    suffix: str = ""
    max_tokens: int = 24
    question: str = "What is this?"

    def load(self, data: Path | None) -> list[Item]:
        """Every stamp whose caption names something; SVGs are drawn into the cache once."""
        what = "tuxpaint-stamps-default's stamps: animals/, symbols/ and others"
        root = folder(self.name, data, what)
        found = [self.item(root, path, names) for path, names in captions(root)]
        if not found:
            raise DataError(f"{root} holds no captioned stamp; give --data .../tuxpaint/stamps.")
        return found

    def item(self, root: Path, path: Path, names: tuple[str, ...]) -> Item:
        """One stamp with the names that count."""
        place = path.relative_to(root)
        return Item(
            id=str(place.with_suffix("")),
            question=self.question,
            image=path if path.suffix == ".png" else drawn(path, place),
            golds=names,
            kind=kind_of(place, drawn=path.with_suffix(".svg").is_file()),
            facts={"group": place.parts[0]},
        )

    def judge(self, item: Item, answer: str) -> tuple[str, float]:
        """Right when the whole answer, without "it is a", is a name or a plural of one."""
        read = plain(answer)
        said = {joined(name) for name in (read, *singular(read))}
        golds = {joined(plain(gold)) for gold in item.golds}
        return read, float(bool(read) and not said.isdisjoint(golds))

    def metrics(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Accuracy overall, without symbols, by kind and by folder; of the whole clause."""
        figures = accuracy(judged)
        others = [one.credit for one in judged if one.item.kind != "symbol"]
        figures["accuracy.without symbols"] = percent(others)
        figures["n.without symbols"] = float(len(others))
        figures["exact"] = percent([float(one.read == plain(one.item.golds[0])) for one in judged])
        for group in sorted({str(one.item.facts["group"]) for one in judged}):
            members = [one.credit for one in judged if one.item.facts["group"] == group]
            figures[f"group.{group}"] = percent(members)
            figures[f"n.{group}"] = float(len(members))
        return figures

    def floor(self, items: Sequence[Item]) -> dict[str, float]:
        """The best single answer to all of them, chosen by looking at the answers."""
        counts = Counter(name for item in items for name in {plain(gold) for gold in item.golds})
        best = min(counts, key=lambda name: (-counts[name], name))
        return self.metrics([Judged(item, best, *self.judge(item, best)) for item in items])


def captions(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """(picture, names) of every stamp with a caption that names something, in order of path."""
    for text in sorted(root.rglob("*.txt")):
        files = [text.with_suffix(ending) for ending in (".png", ".svg")]
        picture = next((path for path in files if path.is_file()), None)
        first = text.read_bytes().split(b"\n", 1)[0].decode("utf-8", "replace")
        names = names_of(first)
        if picture is not None and names:
            yield picture, names


def kind_of(place: Path, drawn: bool) -> str:
    """photo, drawing or symbol, by folder and by whether an SVG is there."""
    if place.parts[0] == "symbols":
        return "symbol"
    photo = place.parts[0] in PHOTO_FOLDERS and not DRAWN_FOLDERS & set(place.parts)
    return "photo" if photo and not drawn else "drawing"


def names_of(caption: str) -> tuple[str, ...]:
    """The names that count, the clause first; none if the caption is no noun phrase."""
    clause = CLAUSE.split(caption.replace("’", "'").strip(), maxsplit=1)[0]
    lower = QUOTES.sub("", clause).strip().lower()
    opener = next((one for one in OPENERS if lower.startswith(one)), "")
    rest = MEASURE.sub("", lower.removeprefix(opener))
    words = [word.strip("'") for word in rest.split()]
    end = next((place for place, word in enumerate(words) if place and word in ENDS), len(words))
    bare_verb = not opener and (words[:1] == [] or words[0] in NOT_NOUNS | ENDS)
    if not words or bare_verb or (not opener and (end < len(words) or end > MOST_WORDS)):
        return ()
    phrase = words[:end]
    starts = [place for place, word in enumerate(phrase) if word != "and"]
    named = [rest, *(" ".join(phrase[start:]) for start in starts)]
    named += [" ".join(words[start:]) for start in starts if end < len(words)]
    if phrase[-1] in CLASSIFIERS and len(phrase) > 1:
        named += [" ".join(phrase[start:-1]) for start in starts[:-1]]
    named += [one for name in tuple(named) if EITHER in name for one in name.split(EITHER)]
    return tuple(dict.fromkeys(form for name in named for form in (name, *singular(name))))


def singular(name: str) -> list[str]:
    """The name with its last word in the singular, if that looks like a plural; else nothing."""
    rest, _, last = name.rpartition(" ")
    if len(last) < 4 or last in ALWAYS_PLURAL or last.endswith(("ss", "us", "is")):
        return []
    if last.endswith("ies"):
        forms = [last[:-3] + "y", last[:-1]]
    elif last.endswith(("shes", "ches", "xes", "sses")):
        forms = [last[:-2]]
    else:
        forms = [last[:-1]] if last.endswith("s") else []
    return [f"{rest} {form}".strip() for form in forms]


def plain(text: str) -> str:
    """An answer to compare: lower case, no marks, "it is" and one article off, digits.

    Unlike the VQA normalisation it keeps an "a" that is a letter's name.
    """
    words = strip_marks(" ".join(text.replace("’", "'").replace(":", " ").split())).lower()
    for opening in OPENINGS:
        words = words.removeprefix(opening)
    rest = words.split()
    rest = rest[1:] if len(rest) > 1 and rest[0] in ARTICLES else rest
    return " ".join(NUMBERS.get(word, word) for word in rest)


def joined(name: str) -> str:
    """A plain name without what joins or parts its words: spaces, apostrophes."""
    return name.replace(" ", "").replace("'", "")


def drawn(path: Path, place: Path) -> Path:
    """An SVG as a PNG in the cache; on white."""
    target = cache_dir() / f"stamps-{WIDTH}" / place.with_suffix(".png")
    newer = target.is_file() and target.stat().st_mtime_ns >= path.stat().st_mtime_ns
    if not newer:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_once(target, render(path, WIDTH))
    return target

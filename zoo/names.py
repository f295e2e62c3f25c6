"""Names of drawings: from an icon's identifier to a concept, its words and its category.

Emoji concepts are CLDR short names (package ``emojibase-data``), so that seven artists' drawings
of one emoji share one concept; an icon whose name equals a CLDR name joins it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from zoo.colours import COLOURS

COLOUR_WORDS = frozenset(COLOURS) | {"grey", "gold", "golden", "silver"}
SKIN = re.compile(r"(light|medium|dark)-skin-tone|skin-tone")
FLUENT_SKIN = re.compile(r"-(light|medium-light|medium|medium-dark|dark)$")
SUFFIXES = re.compile(
    r"-(flat|duo|outline|filled?|bold|thin|light|duotone|variant|rounded|\d\d(px)?|alt|"
    r"outlined?|solid)$"
)


RENAMED = {"turkey": "turkiye", "curacao": "curacao"}
"""Countries whose older or plain spelling names an icon."""

ALIASES = {
    "ballot box with check": "check box with check", "blond haired person": "person: blond hair",
    "bride with veil": "woman with veil", "champagne glass": "clinking glasses",
    "crazy face": "zany face", "direct hit": "bullseye", "dizzy face": "face with crossed-out eyes",
    "exclamation mark": "red exclamation mark", "game dice": "game die",
    "gesturing ok": "person gesturing ok", "hugging face": "smiling face with open hands",
    "knocked out face": "face with crossed-out eyes", "man blonde hair": "man: blond hair",
    "man deaf": "deaf man", "man in suit levitating": "person in suit levitating",
    "man merpeople": "merman", "man with bunny ears": "men with bunny ears",
    "man with chinese cap": "person with skullcap", "man wrestling": "men wrestling",
    "man and woman holding hands": "woman and man holding hands",
    "person blonde hair": "person: blond hair", "person deaf": "deaf person",
    "person merpeople": "merperson", "person with bunny ears": "people with bunny ears",
    "person wrestling": "people wrestling", "phoenix bird": "phoenix", "piata": "piñata",
    "pistol": "water pistol", "pouting face": "enraged face",
    "red triangle": "red triangle pointed up", "red wine glass": "wine glass",
    "school backpack": "backpack", "two men holding hands": "men holding hands",
    "two women holding hands": "women holding hands", "white wine glass": "wine glass",
    "woman blonde hair": "woman: blond hair", "woman deaf": "deaf woman",
    "woman merpeople": "mermaid", "woman with bunny ears": "women with bunny ears",
    "woman wrestling": "women wrestling",
}  # fmt: skip
"""What CLDR calls an emoji now, by what an icon set calls it."""
OLDER = (
    (re.compile(r"^flag for "), ""), (re.compile(r"^person "), ""), (re.compile(r"^heavy "), ""),
    (re.compile(r"\bcat face\b"), "cat"), (re.compile(r" face$"), ""),
)  # fmt: skip
"""Words that emoji names once had and lost, and what stands for them."""


@dataclass(frozen=True)
class Emoji:
    """What CLDR (through emojibase) says of one emoji."""

    label: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    codepoint: str


def squash(text: str) -> str:
    """Letters and digits only, lower case: the key on which names are matched."""
    plain = unicodedata.normalize("NFKD", text.lower())
    return re.sub(r"[^a-z0-9]", "", plain.replace("&", "and"))


def bare_codepoint(code: str) -> str:
    """A codepoint sequence without variation selectors, lower case, joined by dashes."""
    parts = [p.lstrip("0") for p in code.lower().replace(" ", "-").split("-")]
    return "-".join(p for p in parts if p not in ("fe0f", "fe0e"))


def words_of(identifier: str) -> str:
    """``hot-air-balloon-fill`` -> ``hot air balloon``: an identifier's words, style suffix off."""
    previous = ""
    while previous != identifier:
        previous, identifier = identifier, SUFFIXES.sub("", identifier)
    identifier = re.sub(r"-\d+$", "", identifier)
    return identifier.replace("-", " ").strip()


class EmojiNames:
    """CLDR names by codepoint and by squashed name."""

    def __init__(self, emojis: list[Emoji]) -> None:
        self.by_code = {e.codepoint: e for e in emojis}
        self.by_name = {squash(e.label): e for e in emojis}
        for e in emojis:
            self.by_name.setdefault(squash(e.label).removeprefix("flag"), e)
            if e.label.startswith("flag: "):
                self.by_name.setdefault(squash(e.label[6:]) + "flag", e)
                for prefix in ("flagfor", "flagforflag"):
                    self.by_name.setdefault(prefix + squash(e.label[6:]), e)
        for old, new in RENAMED.items():
            for prefix in ("flag", "flagfor", "flagforflag"):
                self.by_name.setdefault(prefix + old, self.by_name["flag" + new])

    @classmethod
    def read(cls, package: Path) -> EmojiNames:
        """Read an unpacked ``emojibase-data``."""
        meta = json.loads((package / "meta" / "groups.json").read_text())
        emojis = []
        for row in json.loads((package / "en" / "data.json").read_text()):
            if "group" not in row:
                continue
            emojis.append(
                Emoji(
                    label=row["label"],
                    keywords=tuple(t for t in row.get("tags", ()) if t != row["label"]),
                    group=meta["groups"][str(row["group"])],
                    subgroup=meta["subgroups"][str(row["subgroup"])],
                    codepoint=bare_codepoint(row["hexcode"]),
                )
            )
        return cls(emojis)

    def find(self, identifier: str, codepoint: str = "") -> Emoji | None:
        """The emoji of an icon's identifier, by its codepoint if it has one, else by its name."""
        found = self.by_code.get(bare_codepoint(codepoint)) if codepoint else None
        return found or self.by_name.get(squash(identifier))

    def find_older(self, words: str) -> Emoji | None:
        """The emoji that bears the words now, of words that it bears or once bore."""
        words = ALIASES.get(words, words)
        found = self.by_name.get(squash(words))
        for pattern, now in OLDER:
            found = found or self.by_name.get(squash(pattern.sub(now, words)))
        return found


def is_skin_tone(identifier: str, known: frozenset[str] | set[str]) -> bool:
    """Whether an identifier is a skin-tone variant of another drawing of the set."""
    if SKIN.search(identifier):
        return True
    base = FLUENT_SKIN.sub("", identifier)
    return (
        base != identifier
        and (base in known or f"{base}-dark" in known)
        and (f"{base}-medium-dark" in known)
    )


def says_colour(name: str) -> bool:
    """Whether a name holds a colour word, so that the drawing must not be recoloured."""
    return any(w in COLOUR_WORDS for w in re.split(r"[^a-z]+", name.lower()))

"""Answers made comparable as the VQA challenge does (visualqa.org, "evaluation").

In its order: line breaks and tabs to spaces; punctuation away, without joining words, but joining
the digits of 100,978; full stops away unless a digit follows; lower case; number words to digits;
articles away; missing apostrophes of contractions back. Apostrophes and colons stay: they can mean
a possessive or a time.
"""

import re

MARKS = ';/[]"{}()=+\\_-><@`,?!'
COMMA_IN_NUMBER = re.compile(r"\d,\d")
LOOSE_STOP = re.compile(r"\.(?!\d)")

NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)
NUMBERS = {word: str(value) for value, word in enumerate(NUMBER_WORDS)} | {"none": "0"}

ARTICLES = frozenset({"a", "an", "the"})

OPENINGS = ("it is ", "this is ", "it's ", "that is ")

# Contractions as they should read. A word that lacks one apostrophe gets it back. Not listed: what
# is a word of its own without it (its, were, well, shed).
CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def lacking(word: str) -> list[str]:
    """The spellings of a contraction that lack one of its apostrophes."""
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


REPAIRED = {bare: word for word in CONTRACTIONS.split() for bare in lacking(word)}
# The challenge's own table has this one the wrong way round, and every published score with it.
REPAIRED["somebody'd"] = "somebodyd"


def normalise(text: str) -> str:
    """The answer as the VQA metric compares it."""
    flat = text.replace("\n", " ").replace("\t", " ").strip()
    words = strip_marks(flat).lower().split()
    numbered = (NUMBERS.get(word, word) for word in words)
    return " ".join(REPAIRED.get(word, word) for word in numbered if word not in ARTICLES)


def bare(text: str) -> str:
    """Normalised, without an opening like "it is a" and without colons."""
    words = normalise(text.replace(":", " ").replace("’", "'"))
    for opening in OPENINGS:
        words = words.removeprefix(opening)
    return words


def strip_marks(text: str) -> str:
    """Punctuation away: to nothing beside a space or in a text with 1,000; else to a space."""
    joined = COMMA_IN_NUMBER.search(text) is not None
    out = text
    for mark in MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if joined or beside_space else " ")
    return LOOSE_STOP.sub("", out)


def normalise_text_vqa(text: str) -> str:
    """TextVQA's variant: commas and question marks away first, the possessive a word of its own."""
    spaced = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalise(spaced)

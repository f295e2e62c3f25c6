"""JSON schemas -> grammars that confine an answer, in the EBNF that the engine's grammars read.

Written here, not left to the engine's own converter, for three reasons: a schema that it cannot
read ends the engine's process; keywords that it does not know it passes over, so that an answer may
break the schema; and it allows white space without end, in which small models get lost. What cannot
be kept is refused by name. Every text of the grammar is valid against the schema; not every valid
text is in the grammar (properties come in the schema's order, and no others do).
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from neva.engine.ranges import LARGEST, decimals, integers
from neva.errors import NevaError

SILENT = frozenset({"$schema", "$id", "$comment", "$defs", "definitions", "title", "description"})
SILENT |= {"default", "examples", "deprecated", "readOnly", "writeOnly"}
"""Keywords that say nothing about which values are valid."""
KNOWN: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum"}),
    "boolean": frozenset(),
    "null": frozenset(),
}
LARGEST_SCHEMA = 65536
"""Letters of a schema, white space left out."""
DEEPEST, LONGEST, LARGEST_COUNT = 32, 16384, 128
"""LARGEST_COUNT bounds all counted letters and items of a schema together: the engine prepares each
of them for the whole vocabulary (1024 letters: over 13 s of two cores for 49,000 tokens)."""
LETTER = (
    r"([ !#-\[\]-~] | [\u00a0-\u07ff] | [\u0800-\u0fff] | [\u1000-\ucfff] | [\ud000-\ud7ff]"
    r" | [\ue000-\uffff] | [\U00010000-\U0003ffff] | [\U00040000-\U000fffff]"
    r' | [\U00100000-\U0010ffff] | "\\" ["\\/bfnrt])'
)
"""Split where UTF-8's first byte changes its rules: xgrammar takes longer ranges too generously."""
_DAYS = (
    '(("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01]) '
    '| ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30") '
    '| "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))'
)
_DATE = f'("19" | "20") [0-9]{{2}} "-" {_DAYS}'
_TIME = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] "Z"'
FORMATS: Mapping[str, str] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-4" [0-9a-f]{3} "-" [89ab] [0-9a-f]{3} "-" [0-9a-f]{12}',
}
BASE: Mapping[str, str] = {
    "ws": '" "?',
    "letter": LETTER,
    "string": '"\\"" letter* "\\""',
    "number": '"-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9] [0-9]?)?',
    "integer": '"-"? ("0" | [1-9] [0-9]*)',
    "boolean": '("true" | "false")',
    "null": '"null"',
    "value": "(object | array | string | number | boolean | null)",
    "object": '"{" (string ":" ws value ("," ws string ":" ws value)*)? "}"',
    "array": '"[" (value ("," ws value)*)? "]"',
}
"""Rules that every grammar has."""


class SchemaError(NevaError):
    """A schema that no grammar can keep; names the place and the keyword."""


def object_grammar() -> str:
    """Any JSON object."""
    return _written({**BASE, "root": "object"})


def schema_grammar(schema: Any) -> str:
    """The JSON texts that are valid against `schema`; SchemaError if that cannot be kept.

    The grammars of the last 64 schemas are known.
    """
    try:
        text = json.dumps(schema, separators=(",", ":"), allow_nan=False)
        json.dumps(schema, ensure_ascii=False).encode()  # half a surrogate pair is no Unicode
    except (TypeError, ValueError, RecursionError):
        raise SchemaError(
            "the JSON schema is no JSON (NaN, infinity, half a surrogate pair), or too deep"
        ) from None
    if len(text) > LARGEST_SCHEMA:
        raise SchemaError(f"the JSON schema has more than {LARGEST_SCHEMA:,} letters: shorten it")
    return _grammar_of(text)


@lru_cache(maxsize=64)
def _grammar_of(text: str) -> str:
    """See `schema_grammar`; `text` is the schema in JSON."""
    schema = json.loads(text)
    grammar = _Grammar(schema)
    root = grammar.expression(schema, "$", 0)
    grammar.check_circles()
    return _written({**BASE, **grammar.rules, "root": root})


def _written(rules: Mapping[str, str]) -> str:
    text = "".join(f"{name} ::= {body}\n" for name, body in rules.items())
    if len(text.encode()) > LONGEST:
        raise SchemaError(
            f"the JSON schema makes a grammar of more than {LONGEST:,} bytes: shorten it"
        )
    return text


def literal(text: str) -> str:
    """A quoted EBNF literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _constant(value: Any) -> str:
    """The one JSON text that we allow for a value, in ASCII.

    xgrammar 2026.4 reads a letter beyond ASCII and a following "e" as one hexadecimal number.
    """
    return literal(json.dumps(value, separators=(",", ":")))


class _Grammar:
    """Walks one schema; `rules` are those it has made."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._counted = 0
        self._named: dict[str, str] = {}
        self._leads: dict[str, set[str]] = {}  # reference -> those its text may begin with
        self.rules: dict[str, str] = {}

    def expression(self, schema: Any, place: str, depth: int, begins: str = "") -> str:
        """An expression for a schema at `place`; `begins`: the reference whose text begins here."""
        if depth > DEEPEST:
            raise SchemaError(f"the JSON schema is more than {DEEPEST} levels deep at {place}")
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, dict):
            raise SchemaError(f"the JSON schema at {place} is no object")
        said = {name: value for name, value in schema.items() if name not in SILENT}
        for name in ("$ref", "anyOf", "allOf", "enum", "const"):
            if name in said:
                return self._special(name, said, place, depth, begins)
        kinds = self._kinds(said, place)
        self._check_known(said, kinds, place)
        parts = [self._typed(kind, said, place, depth) for kind in kinds]
        return parts[0] if len(parts) == 1 else f"({' | '.join(parts)})"

    def _special(self, name: str, said: dict[str, Any], place: str, depth: int, begins: str) -> str:
        value = said[name]
        others = set(said) - {name, *(("type",) if name in ("enum", "const") else ())}
        if others:
            raise SchemaError(
                f"{min(others)} beside {name} at {place} of the JSON schema: split them"
            )
        if name == "$ref":
            return self._reference(value, place, depth, begins)
        if name == "const":
            return _choice([value], said, place)
        if not isinstance(value, list) or not value:
            raise SchemaError(f"{name} at {place} of the JSON schema must be a list with entries")
        if name == "enum":
            return _choice(value, said, place)
        if name == "allOf" and len(value) > 1:
            raise SchemaError(
                f"allOf at {place} of the JSON schema cannot be kept: write one schema"
            )
        parts = [self.expression(v, f"{place}.{name}", depth + 1, begins) for v in value]
        return f"({' | '.join(parts)})"

    def _reference(self, ref: Any, place: str, depth: int, begins: str) -> str:
        """The rule of a referenced schema, made at its first use."""
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise SchemaError(
                f"$ref at {place} of the JSON schema must point into it (#/$defs/...)"
            )
        self._leads.setdefault(begins, set()).add(ref)
        if ref not in self._named:
            self._named[ref] = name = f"ref{len(self._named)}"
            self.rules[name] = self.expression(self._found(ref, place), ref, depth + 1, ref)
        return self._named[ref]

    def check_circles(self) -> None:
        """SchemaError for references that lead to themselves without a character between."""
        for start in self._named:
            seen: set[str] = set()
            waiting = list(self._leads.get(start, ()))
            while waiting:
                ref = waiting.pop()
                if ref == start:
                    raise SchemaError(f"{ref} of the JSON schema runs in a circle")
                if ref not in seen:
                    seen.add(ref)
                    waiting.extend(self._leads.get(ref, ()))

    def _found(self, ref: str, place: str) -> Any:
        found = self._document
        for step in ref.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or step not in found:
                raise SchemaError(f"$ref at {place} of the JSON schema: there is no {ref[:80]}")
            found = found[step]
        return found

    def _kinds(self, said: Mapping[str, Any], place: str) -> Sequence[str]:
        """The types that a schema allows, said or to be seen from its keywords."""
        kinds = said.get("type")
        if kinds is None:
            kinds = [kind for kind in ("object", "array", "string") if KNOWN[kind] & set(said)]
            if len(kinds) != 1:
                raise SchemaError(f"the JSON schema at {place} needs a type")
        listed = kinds if isinstance(kinds, list) else [kinds]
        if not listed or any(not isinstance(kind, str) or kind not in KNOWN for kind in listed):
            raise SchemaError(f"type at {place} of the JSON schema must be of {', '.join(KNOWN)}")
        return listed

    def _check_known(self, said: Mapping[str, Any], kinds: Sequence[str], place: str) -> None:
        known = frozenset({"type"}).union(*(KNOWN[kind] for kind in kinds))
        strange = sorted(set(said) - known)
        if strange:
            raise SchemaError(
                f"{strange[0]} at {place} of the JSON schema cannot be kept here: leave it out"
            )

    def _typed(self, kind: str, said: Mapping[str, Any], place: str, depth: int) -> str:
        for least, most in (("minLength", "maxLength"), ("minItems", "maxItems")):
            if least in KNOWN[kind]:
                self._count(*_counts(said, least, most, place))
        if kind == "object":
            return self._object(said, place, depth)
        if kind == "array":
            return self._array(said, place, depth)
        if kind == "string":
            return _string(said, place)
        if kind in ("integer", "number"):
            return _number(kind, said, place)
        return kind

    def _count(self, least: int, most: int | None) -> None:
        """Keep the sum of all counts bounded."""
        self._counted += least if most is None else most
        if self._counted > LARGEST_COUNT:
            raise SchemaError(
                f"the lengths in the JSON schema add up to over {LARGEST_COUNT}: leave some out"
            )

    def _object(self, said: Mapping[str, Any], place: str, depth: int) -> str:
        """Properties in their order; optional ones may be left out."""
        properties, required = said.get("properties", {}), said.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise SchemaError(f"properties or required at {place} of the JSON schema is malformed")
        missing = [name for name in required if name not in properties]
        if missing:
            raise SchemaError(
                f"required at {place} of the JSON schema: {missing[0]!r} is no property"
            )
        if not properties:
            return self._map(said.get("additionalProperties", True), place, depth)
        pairs = [
            (self._pair(name, of, f"{place}.{name}", depth + 1), name)
            for name, of in properties.items()
        ]
        first = later = '""'  # what may follow when nothing, or something, was said before
        for pair, name in reversed(pairs):
            options = [f"{pair} {later}"], [f'"," ws {pair} {later}']
            if name not in required:
                options[0].append(first)
                options[1].append(later)
            first, later = (self._rule(f"({' | '.join(option)})") for option in options)
        return f'("{{" {first} "}}")'

    def _pair(self, name: str, schema: Any, place: str, depth: int) -> str:
        """One property, name and value."""
        return self._rule(f'{_constant(name)} ":" ws {self.expression(schema, place, depth)}')

    def _map(self, values: Any, place: str, depth: int) -> str:
        """An object whose names the schema leaves open."""
        if values is False:
            return '"{}"'
        value = self.expression(values, f"{place}.additionalProperties", depth + 1)
        pair = self._rule(f'string ":" ws {value}')
        return f'("{{" ({pair} ("," ws {pair})*)? "}}")'

    def _array(self, said: Mapping[str, Any], place: str, depth: int) -> str:
        least, most = _counts(said, "minItems", "maxItems", place)
        if most == 0:
            return '"[]"'
        item = self._rule(self.expression(said.get("items", True), f"{place}[]", depth + 1))
        more = f'("," ws {item}){_times(max(0, least - 1), None if most is None else most - 1)}'
        return f'("[" ({item} {more}){"" if least else "?"} "]")'

    def _rule(self, body: str) -> str:
        name = f"part{len(self.rules)}"
        self.rules[name] = body
        return name


IS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def _choice(values: Sequence[Any], said: Mapping[str, Any], place: str) -> str:
    """One of `values`, those that are of the type if one is said."""
    kinds = said.get("type", list(IS))
    names = kinds if isinstance(kinds, list) else [kinds]
    allowed = tuple(kind for name in names for kind in IS.get(str(name), ()))
    fit = [v for v in values if isinstance(v, allowed) and (bool in allowed or type(v) is not bool)]
    if not fit:
        raise SchemaError(f"no value at {place} of the JSON schema is of its type")
    return f"({' | '.join(_constant(one) for one in fit)})"


def _times(least: int, most: int | None) -> str:
    if most is None:
        return f"{{{least},}}" if least else "*"
    return f"{{{least},{most}}}"


def _counts(said: Mapping[str, Any], low: str, high: str, place: str) -> tuple[int, int | None]:
    """Two bounds of a length."""
    least, most = said.get(low, 0), said.get(high)
    for name, count in ((low, least), (high, most)):
        if count is not None and (type(count) is not int or not 0 <= count <= LARGEST_COUNT):
            raise SchemaError(f"{name} at {place} of the JSON schema must be 0 to {LARGEST_COUNT}")
    if most is not None and most < least:
        raise SchemaError(f"{low} at {place} of the JSON schema is more than {high}")
    return least, most


def _string(said: Mapping[str, Any], place: str) -> str:
    least, most = _counts(said, "minLength", "maxLength", place)
    form = said.get("format")
    if form is not None:
        if form not in FORMATS or least or most is not None:
            raise SchemaError(
                f"format at {place} of the JSON schema must be of {', '.join(FORMATS)}, alone"
            )
        return f'("\\"" {FORMATS[form]} "\\"")'
    if not least and most is None:
        return "string"
    return f'("\\"" letter{_times(least, most)} "\\"")'


def _number(kind: str, said: Mapping[str, Any], place: str) -> str:
    low, high = _bound(said, "minimum", place), _bound(said, "maximum", place)
    after, before = (_bound(said, f"exclusive{end}imum", place) for end in ("Min", "Max"))
    low = max(
        (b for b in (low, None if after is None else after + 1) if b is not None), default=None
    )
    high = min(
        (b for b in (high, None if before is None else before - 1) if b is not None), default=None
    )
    if low is None and high is None:
        return kind
    if low is not None and high is not None and low > high:
        raise SchemaError(f"the bounds at {place} of the JSON schema leave no number")
    return integers(low, high) if kind == "integer" else decimals(low, high)


def _bound(said: Mapping[str, Any], name: str, place: str) -> int | None:
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise SchemaError(f"{name} at {place} of the JSON schema must be a whole number here")
    if abs(value) > LARGEST:
        raise SchemaError(f"{name} at {place} of the JSON schema must be within {LARGEST} here")
    return int(value)

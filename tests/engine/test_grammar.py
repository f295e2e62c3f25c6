"""JSON schemas as grammars: what the engine writes under one is valid against it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva.engine import open_engine
from neva.engine.grammar import SchemaError, object_grammar, schema_grammar
from neva.engine.protocol import Engine, Request, Sampling, collect
from neva.engine.ranges import decimals, integers
from neva.prompts.conversation import ask

NAME = {"type": "string", "maxLength": 6}
MAYBE = {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}
NODE = {
    "type": "object",
    "properties": {
        "v": {"type": "integer", "minimum": 0, "maximum": 9},
        "next": {"$ref": "#/$defs/M"},
    },
    "required": ["v", "next"],
}
SCHEMAS: dict[str, Any] = {
    "person": {
        "type": "object",
        "properties": {"name": NAME, "age": {"type": "integer", "minimum": 0, "maximum": 130}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "optional": {
        "type": "object",
        "properties": {n: {"type": "boolean"} for n in "abc"},
        "required": ["b"],
    },
    "enum": {"enum": ["cat", 'a "dog"', 3, None, {"x": [1]}, "größe\n\\"]},
    "typed enum": {"type": "string", "enum": ["a", 1]},
    "const": {"const": 7},
    "union": {"anyOf": [{"type": "integer", "exclusiveMinimum": 99}, {"type": "null"}]},
    "list": {"type": "array", "items": {"type": ["boolean", "null"]}, "minItems": 2, "maxItems": 4},
    "empty list": {"type": "array", "maxItems": 0},
    "map": {
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": -1, "maximum": 1},
    },
    "dates": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "text": {"type": "string", "minLength": 3, "maxLength": 8},
    "linked": {
        "$ref": "#/$defs/N",
        "$defs": {"N": NODE, "M": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}},
    },
    "number": {"type": "number"},
    "from 18": {"type": "integer", "minimum": 18},
    "to 2345": {"type": "integer", "minimum": 17, "maximum": 2345},
    "around 0": {"type": "number", "minimum": -5, "maximum": 7},
    "large": {"type": "integer", "minimum": -9999, "maximum": 9999},
    "accents": {
        "type": "object",
        "properties": {"größe": {"const": "élan\u2028"}},
        "required": ["größe"],
    },
}
B = {"$ref": "#/$defs/B"}
REFUSED: dict[str, Any] = {
    "pattern": {"type": "string", "pattern": "a+"},
    "type": {"type": "nonsense"},
    "needs a type": {"minimum": 1},
    "oneOf": {"type": "object", "oneOf": [{"type": "string"}]},
    "no object": [],
    "circle": {"$ref": "#"},
    "runs in a circle": {
        "$ref": "#/$defs/A",
        "$defs": {
            "A": {
                "anyOf": [
                    {"type": "object", "properties": {"p": {"$ref": "#/$defs/B"}}},
                    {"$ref": "#/$defs/B"},
                ]
            },
            "B": {"anyOf": [{"$ref": "#/$defs/A"}]},
        },
    },
    "there is no": {"$ref": "#/$defs/none"},
    "must point into it": {"$ref": "https://example.org/schema"},
    "entries": {"enum": []},
    "no number": {"type": "integer", "minimum": 5, "maximum": 4},
    "within 9999": {"type": "integer", "maximum": 10**6},
    "whole number": {"type": "number", "minimum": 0.5},
    "more than maxItems": {"type": "array", "minItems": 3, "maxItems": 2},
    "add up": {"type": "array", "items": {"type": "string", "maxLength": 100}, "maxItems": 29},
    "must be 0 to": {"type": "string", "maxLength": 10**9},
    "required": {"type": "object", "required": ["x"]},
    "of its type": {"type": "integer", "enum": ["a"]},
}


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[Engine]:
    opened = open_engine(tiny, "openvino", "fp32", cache_mib=64)
    yield opened
    opened.close()


def written(engine: Engine, grammar: str, seeds: int = 12) -> list[str]:
    """What a random model writes under a grammar, as far as it came to an end."""
    requests = [
        Request(ask("Write.", images=0), sampling=Sampling(1.5, 1.0, 380, seed, grammar=grammar))
        for seed in range(seeds)
    ]
    answers = [collect(stream) for stream in engine.generate(requests)]
    return [text for text, last in answers if last.finish == "stop"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_answers_are_valid(engine: Engine, name: str) -> None:
    texts = written(engine, schema_grammar(SCHEMAS[name]))
    assert texts, "a random model comes to an end under every one of these"
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMAS[name])


def test_any_object(engine: Engine) -> None:
    texts = written(engine, object_grammar(), 24)
    assert texts and all(isinstance(json.loads(text), dict) for text in texts)


def test_what_cannot_be_kept_is_refused_by_name() -> None:
    for words, schema in REFUSED.items():
        with pytest.raises(SchemaError, match=re.escape(words)):
            schema_grammar(schema)


def test_what_is_no_json_is_refused() -> None:
    for schema in (
        {"type": "number", "maximum": float("inf")},
        {"type": "integer", "minimum": float("nan")},
        {"const": float("nan")},
        {"enum": ["\ud800", "a"]},
        {"type": "string", "description": "\udfff"},
        {"type": "string", "default": float("-inf")},
    ):
        with pytest.raises(SchemaError, match="is no JSON"):
            schema_grammar(schema)
    assert schema_grammar({"enum": ["\U0001f600"]})


def test_too_deep_and_too_long() -> None:
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(40):
        deep = {"type": "array", "items": deep}
    with pytest.raises(SchemaError, match="levels"):
        schema_grammar(deep)
    with pytest.raises(SchemaError, match="shorten"):
        schema_grammar({"enum": [f"{n:090}" for n in range(1000)]})


def test_nesting_does_not_multiply_the_grammar() -> None:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(14):
        schema = {"type": "object", "properties": {"a": schema, "b": schema}}
        schema = {
            "type": "object",
            "properties": {"a": {"type": "null"}, "b": schema["properties"]["a"]},
        }
    assert len(schema_grammar(schema)) < 10_000


def as_regex(grammar: str) -> str:
    """Our number grammars are regular: quoted literals and classes, without rule names."""
    return re.sub(r'"([^"]*)"', lambda found: re.escape(found[1]), grammar).replace(" ", "")


@settings(deadline=None)  # the machine may be busy
@given(st.integers(-2000, 2000), st.integers(0, 1500), st.integers(-2600, 2600))
def test_ranges_of_whole_numbers(low: int, width: int, number: int) -> None:
    high = low + width
    inside = low <= number <= high
    assert bool(re.fullmatch(as_regex(integers(low, high)), str(number))) == inside
    assert bool(re.fullmatch(as_regex(integers(low, None)), str(number))) == (low <= number)
    assert bool(re.fullmatch(as_regex(integers(None, high)), str(number))) == (number <= high)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(-40, 40), st.integers(0, 30), st.decimals(-80, 80, places=2))
def test_ranges_of_fractions(low: int, width: int, number: Any) -> None:
    high = low + width
    matched = bool(re.fullmatch(as_regex(decimals(low, high)), str(number)))
    if matched:
        assert low <= number <= high
    elif low <= number <= high:
        assert number in (low, high), "only a bound may be written in other ways"

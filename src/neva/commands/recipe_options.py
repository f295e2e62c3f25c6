"""Command-line options made from the fields of `Recipe`: one sentence, one type, one place."""

import dataclasses
import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from neva.train.recipe import Recipe, Stage
from neva.train.recipes import DEFAULTS


def with_recipe_options(stage: Stage) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every field of `Recipe` but `stage` as an option, in its `**values`.

    An option that is not given is None and leaves the value of the recipe as it is.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        kept = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        added = [_parameter(f, stage) for f in dataclasses.fields(Recipe) if _fits(f.name, stage)]
        command.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[*kept, *added]
        )
        command.__annotations__ = {p.name: p.annotation for p in [*kept, *added]}
        return command

    return decorate


def _fits(name: str, stage: Stage) -> bool:
    """The LM is frozen in pretrain, so nothing of LoRA is offered there."""
    return name != "stage" and not (stage == "pretrain" and name.startswith(("lora", "qlora")))


def _parameter(field: dataclasses.Field[Any], stage: Stage) -> inspect.Parameter:
    kind = _plain(get_type_hints(Recipe)[field.name])
    flag = f"--{field.name.replace('_', '-')}"
    names = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    usual = getattr(DEFAULTS[stage], field.name)
    option = typer.Option(
        *names,
        help=str(field.metadata["help"]),
        rich_help_panel="Recipe",
        show_default="unset" if usual is None else str(usual),
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _plain(hint: Any) -> Any:
    """The type without None; a Literal's values are checked by `Recipe` itself."""
    if get_origin(hint) in (types.UnionType, Union):
        hint = next(a for a in get_args(hint) if a is not type(None))
    return str if get_origin(hint) is Literal else hint

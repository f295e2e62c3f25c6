"""`neva compose`: join a CLIP and a GPT by a fresh projector."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from tokenizers import Tokenizer

from neva.commands.ending import cleaned_up
from neva.model.kinds import DType, ProjectorKind
from neva.model.provenance import Aspect
from neva.prompts import TEMPLATES, Template, stop_ids
from neva.prompts.encode import fits

VISION = typer.Option("--vision", help="A Hugging Face CLIP: a directory or a hub name.")
LANGUAGE = typer.Option(
    "--language",
    help="A causal LM (llama, nemotron, mistral, gpt_neox, gpt2, qwen2): a directory, a hub name "
    "or a .gguf file.",
)
PROJECTOR = typer.Option(
    "--projector", help="mlp2x_gelu: two layers, as LLaVA 1.5 and NeVA. linear: one, as LLaVA."
)
OUT = typer.Option("--output", "-o", help="Where to write the checkpoint; must not exist yet.")
TEMPLATE = typer.Option(
    "--template",
    help="How conversations are written: v1 for a base LM; what a chat LM was trained with "
    "(chatml, llama_2, llama_3, mistral, nvgpt, nv_dpo) for that LM.",
)
LAYER = typer.Option(
    "--feature-layer",
    help="Whose output of the CLIP's layers is projected, -1 for the last (default -2, as LLaVA). "
    "Given twice or more: several, side by side; early layers know sizes and places better.",
)
ASPECT = typer.Option(
    "--aspect",
    help="pad: lay the picture on a square of the mean colour. square: crop the middle.",
)
DTYPE = typer.Option("--dtype", help="Type of the weights written.")
SEED = typer.Option("--seed", help="Seed of the fresh projector.")


def compose(
    vision: Annotated[str, VISION],
    language: Annotated[str, LANGUAGE],
    output: Annotated[Path, OUT],
    projector: Annotated[ProjectorKind, PROJECTOR] = "mlp2x_gelu",
    template: Annotated[str, TEMPLATE] = "v1",
    feature_layer: Annotated[list[int] | None, LAYER] = None,
    aspect: Annotated[Aspect, ASPECT] = "pad",
    dtype: Annotated[DType, DTYPE] = "bfloat16",
    seed: Annotated[int, SEED] = 0,
) -> None:
    """Join a CLIP and a GPT by a fresh projector into a checkpoint, ready for `neva pretrain`.

    CLIP and GPT are copied as they are; the projector starts at random, scaled so that image
    tokens are as large as words. The result is a Hugging Face LLaVA directory that loads in plain
    transformers. It cannot see yet: stage 1 teaches the projector, stage 2 the GPT.

    Example: neva compose --vision clip-vit-l-14 --language llama-2-7b --template llama_2 -o model
    """
    from neva.model.compose import compose as join  # torch is imported only now

    with cleaned_up():
        checkpoint = join(
            vision,
            language,
            projector,
            output,
            template=template,
            feature_layer=feature_layer or -2,
            aspect=aspect,
            dtype=dtype,
            seed=seed,
        )
    typer.echo(
        f"{checkpoint.image_tokens} image tokens of id {checkpoint.image_token_id}, a context of "
        f"{checkpoint.context}, template {checkpoint.provenance.template}. Next: "
        f"neva pretrain {output} --data FILE.json --images DIR -o RUN",
        err=True,
    )
    warning = misfit(checkpoint.template, checkpoint.tokenizer, checkpoint.image_token_id)
    if warning:
        typer.echo(f"Warning: {warning}", err=True)
    sys.stdout.write(f"{output}\n")


def misfit(template: Template, tokenizer: Tokenizer, image_token_id: int) -> str:
    """What a template loses with this tokenizer, and which templates do not; "" if nothing."""
    faults: list[str] = []
    if not stop_ids(template, tokenizer):
        ends = ", ".join(map(repr, template.stop))
        faults.append(
            f"its end {ends} is no token of this LM's, so that answers are ended by neva, which "
            "reads the text, but not by generate() of transformers and other servers"
        )
    if not fits(template, tokenizer, image_token_id):
        faults.append(
            "this tokenizer joins its header with an answer's first letters, so that the model is "
            "asked at another token than it is taught to answer at"
        )
    if not faults:
        return ""
    better = [
        name
        for name, one in TEMPLATES.items()
        if one.keeps_question and stop_ids(one, tokenizer) and fits(one, tokenizer, image_token_id)
    ]
    advice = f"use --template {' or '.join(better)}" if better else "no template does better"
    return f"template {template.name}: {'; and '.join(faults)}. With this LM {advice}."

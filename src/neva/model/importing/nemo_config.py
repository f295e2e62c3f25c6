"""What a NeMo archive's `model_config.yaml` says, held against the language model's `config.json`.

The two describe the same model in two languages. Where they disagree the model that would come of
it computes something else than the one that was trained, so it is refused.
"""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import CheckpointError
from neva.model.importing.parts import picture_aspect, projector_kind
from neva.model.kinds import ProjectorKind
from neva.model.provenance import Aspect
from neva.prompts import TEMPLATES

# Hugging Face's family -> NeMo's words for its norm and activation, and Hugging Face's for that.
_FAMILIES: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "llama": ("rmsnorm", ("fast-swiglu", "swiglu"), "silu"),
    "nemotron": ("layernorm1p", ("squared-relu",), "relu2"),
}
_MOST_BYTES = 2**18  # NeMo's are of some thousands
_MOST_DEPTH = 50
_RANKS = "tensor_model_parallel_size"
_OTHER_NAMES = {"vicuna_v1": "v1", "llava_llama_2": "llama_2"}
# (setting, what it must be, what it is if unsaid): anything else computes in another way.
_PLAIN: tuple[tuple[str, tuple[object, ...], object], ...] = (
    ("position_embedding_type", ("rope",), "learned_absolute"),
    ("bias", (False,), True),
    ("qkv_bias", (False, None), None),
    ("add_qkv_bias", (False, None), None),
    ("qk_layernorm", (False, None), None),
    ("rotary_interleaved", (False, None), None),
    ("scale_positional_embedding", (False, None), None),
    ("transformer_block_type", ("pre_ln",), "pre_ln"),
    ("normalize_attention_scores", (True,), True),
    ("attention_type", ("multihead",), "multihead"),
    ("headscale", (False, None), None),
    ("num_moe_experts", (None, 0, 1), None),
    ("window_size", (None,), None),
    ("override_vocab_size", (None,), None),
    ("pipeline_model_parallel_size", (1, None), 1),
)


@dataclass(frozen=True)
class NemoFacts:
    """What is taken from `model_config.yaml`. `heads` and `groups` are of queries and of keys."""

    heads: int
    groups: int
    ranks: int
    gated: bool
    tied: bool
    projector: ProjectorKind
    layer: int
    aspect: Aspect
    clip: str | None
    template: str | None


def read_yaml(file: Path, source: Path) -> dict[str, Any]:
    """A YAML object by the safe loader; CheckpointError, of the archive `source`, for other."""
    import yaml  # type: ignore[import-untyped]

    if file.stat().st_size > _MOST_BYTES:
        raise CheckpointError(
            f"{source}: {file.name} is longer than {_MOST_BYTES} bytes, which no model's settings "
            "are; copy the archive again."
        )
    try:
        text = file.read_text(encoding="utf-8")
        _check_plain(yaml.parse(text, Loader=yaml.SafeLoader))
        record = yaml.safe_load(text)
    except Exception as error:  # of odd tags yaml raises whatever it likes
        first = str(error).split("\n")[0]
        raise CheckpointError(
            f"{source}: {file.name} is not YAML as NeMo writes it ({first}); copy the archive "
            "again."
        ) from error
    if not isinstance(record, dict):
        raise CheckpointError(
            f"{source}: {file.name} has no settings in it; copy the archive again."
        )
    return record


def _check_plain(events: Iterable[Any]) -> None:
    """ValueError for aliases, by which a few lines become more than any memory holds.

    NeMo's archives have none: OmegaConf, which writes them, spells every part out.
    """
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if kind == "AliasEvent" or depth > _MOST_DEPTH:
            what = "refers to another part" if kind == "AliasEvent" else "is nested too deeply"
            raise ValueError(f"line {event.start_mark.line + 1} {what}")


def nemo_facts(source: Path, cfg: Mapping[str, Any], text: Mapping[str, Any]) -> NemoFacts:
    """The facts, after everything that `text` (the LM's `config.json`) says is found the same."""
    place = source / "model_config.yaml"
    mm = cfg.get("mm_cfg")
    if not isinstance(mm, dict):
        raise CheckpointError(f"{place}: it has no mm_cfg; it is not a NeVA model.")
    family = _family(place, cfg, text)
    for name, plain, unsaid in _PLAIN:
        if (said := cfg.get(name, unsaid)) not in plain:
            raise CheckpointError(
                f"{place}: {name} is {reprlib.repr(said)}, which no {family} of Hugging Face's can "
                "say, so it is not imported."
            )
    _compare(place, cfg, text)
    data = cfg.get("data") if isinstance(cfg.get("data"), dict) else {}
    assert isinstance(data, dict)
    vision = _vision(place, mm, data)
    heads, clip = int(text["num_attention_heads"]), vision.get("from_pretrained")
    return NemoFacts(
        heads=heads,
        groups=int(text.get("num_key_value_heads") or heads),
        ranks=_number(place, _RANKS, cfg.get(_RANKS) or 1),
        gated=family == "llama",
        tied=bool(cfg.get("share_embeddings_and_output_weights", True)),
        projector=projector_kind(place, mm.get("mm_mlp_adapter_type")),
        layer=_number(place, "vision_select_layer", vision.get("vision_select_layer", -2)),
        aspect=picture_aspect(place, data.get("image_aspect_ratio")),
        clip=clip if isinstance(clip, str) and clip else None,
        template=_template(mm, data),
    )


def tower_doubts(cfg: Mapping[str, Any], clip: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Notes where the archive speaks of other pictures than the CLIP's configuration does.

    No errors: NeMo itself goes by the CLIP, so that these numbers may be left from its examples.
    """
    mm, data = cfg.get("mm_cfg"), cfg.get("data")
    vision = mm.get("vision_encoder") if isinstance(mm, dict) else None
    side, patch = int(clip["image_size"]), int(clip["patch_size"])
    pairs = (
        ("data", data, "image_token_len", (side // patch) ** 2, "image tokens"),
        ("mm_cfg.vision_encoder", vision, "crop_size", [side, side], "pixels"),
        ("mm_cfg.vision_encoder", vision, "patch_dim", patch, "pixels a patch"),
    )
    return tuple(
        f"the archive's {place}.{key} is {reprlib.repr(holder[key])}, and {name} has {ours} "
        f"{unit}: if it was trained with another CLIP, import it again with --vision"
        for place, holder, key, ours, unit in pairs
        if isinstance(holder, dict) and holder.get(key) not in (None, ours)
    )


def _family(place: Path, cfg: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """The family, after NeMo's words for it are found to be those of `text`."""
    family = str(text.get("model_type"))
    if family not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        raise CheckpointError(f"--language: a {family!r}; NeMo's archives are imported as {known}.")
    norm, activations, ours = _FAMILIES[family]
    said = (str(cfg.get("normalization", "layernorm")), str(cfg.get("activation", "gelu")))
    if said[0] != norm or said[1] not in activations:
        raise CheckpointError(
            f"{place}: normalization {said[0]} and activation {said[1]} are not those of a "
            f"{family} ({norm}, {activations[0]}), which --language is."
        )
    if text.get("hidden_act") != ours:
        raise CheckpointError(
            f"--language: its hidden_act is {text.get('hidden_act')!r}, and {place} says "
            f"{said[1]}, which is {ours!r}; give the language model that NeVA was made of."
        )
    return family


def _compare(place: Path, cfg: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """CheckpointError for a number that is another in `model_config.yaml` than in `config.json`."""
    heads, rope = text["num_attention_heads"], text.get("rope_parameters") or {}
    size = text.get("head_dim") or text["hidden_size"] // heads
    factor = rope.get("factor") if rope.get("rope_type") == "linear" else None
    if rope.get("rope_type", "default") not in ("default", "linear"):
        raise CheckpointError(
            f"--language: rotary embeddings of type {rope['rope_type']!r} are not compared with "
            "NeMo's, so it is not imported."
        )
    own_heads = cfg.get("num_attention_heads")
    pairs: tuple[tuple[str, object, object], ...] = (
        ("num_layers", cfg.get("num_layers"), text["num_hidden_layers"]),
        ("hidden_size", cfg.get("hidden_size"), text["hidden_size"]),
        ("ffn_hidden_size", cfg.get("ffn_hidden_size"), text["intermediate_size"]),
        ("num_attention_heads", own_heads, heads),
        (
            "num_query_groups",
            cfg.get("num_query_groups") or own_heads,
            text.get("num_key_value_heads") or heads,
        ),
        ("kv_channels", cfg.get("kv_channels") or _ratio(cfg), size),
        (
            "layernorm_epsilon",
            cfg.get("layernorm_epsilon", 1e-5),
            text.get("rms_norm_eps", text.get("norm_eps")),
        ),
        ("rotary_base", cfg.get("rotary_base", 10000), rope.get("rope_theta", 10000)),
        (
            "rotary_percentage",
            cfg.get("rotary_percentage", 1.0),
            rope.get("partial_rotary_factor", text.get("partial_rotary_factor", 1.0)),
        ),
        ("seq_len_interpolation_factor", cfg.get("seq_len_interpolation_factor"), factor),
    )
    for name, nemo, hugging in pairs:
        if not _same(nemo, hugging):
            raise CheckpointError(
                f"{place}: {name} is {reprlib.repr(nemo)}, and the config.json of --language says "
                f"{hugging}; give the language model that NeVA was made of."
            )


def _ratio(cfg: Mapping[str, Any]) -> object:
    width, heads = cfg.get("hidden_size"), cfg.get("num_attention_heads")
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None


def _same(one: object, other: object) -> bool:
    """Equal, where YAML may have read 1e-5 as text."""
    try:
        return one == other or float(str(one)) == float(str(other))
    except ValueError:
        return False


def _vision(place: Path, mm: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """`mm_cfg.vision_encoder`; CheckpointError for what is not one CLIP, one picture, patches."""
    vision = mm.get("vision_encoder")
    if not isinstance(vision, dict):
        raise CheckpointError(f"{place}: mm_cfg has no vision_encoder; copy the archive again.")
    for holder, name, plain, reason in (
        (mm, "use_im_start_end", (False, None), "it sets pictures between tokens of their own"),
        (mm, "use_lita", (False, None), "it reads videos"),
        (data, "media_type", ("image", None), "it reads other media than pictures"),
        (vision, "from_hf", (True,), "its tower is Megatron's own CLIP, not Hugging Face's"),
        (vision, "class_token_length", (1, None), "its tower has another number of class tokens"),
        (vision, "vision_select_feature", ("patch", None), "it projects the class token too"),
    ):
        if holder.get(name) not in plain:
            raise CheckpointError(
                f"{place}: {name} is {holder.get(name)!r}: {reason}; it is not imported."
            )
    return vision


def _number(place: Path, name: str, value: object) -> int:
    if isinstance(value, int):
        return value
    raise CheckpointError(
        f"{place}: {name} is {reprlib.repr(value)}, no number; copy the archive again."
    )


def _template(mm: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """The prompt template that it was trained with, where neva has one of that name.

    `plain` is stage 1's: it says nothing of how the model is asked.
    """
    llm = mm.get("llm")
    said = data.get("conv_template") or (llm.get("model_type") if isinstance(llm, dict) else None)
    name = _OTHER_NAMES.get(str(said), str(said))
    return name if name in TEMPLATES and name != "plain" else None

"""The training forward: packed tokens and images in, the summed loss of supervised tokens out.

Reads from top to bottom: features -> projector -> embeddings with images in their places -> body of
the LM, documents apart -> hidden states that predict a supervised token -> head -> cross-entropy.
Logits exist at supervised positions only. The equality tests hold it to plain Hugging Face,
sample by sample, in loss and gradients.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from neva.images import PixelRecipe
from neva.model.attention import as_mask
from neva.model.features import image_features
from neva.model.head import Entropy, head_loss, plain_entropy

SIZES, LONG = 64, 512  # on a CPU, rows of LONG tokens and more are multiples of SIZES long


@dataclass(frozen=True)
class PackedInputs:
    """One row of whole samples, one after another, on the CPU.

    Either `images` or `features` where there are image tokens, in the order of the tokens; neither
    in a row of text.
    """

    ids: Tensor
    """(T,) int64; an image is P copies of the image token."""
    positions: Tensor
    """(T,) int64, from 0 in each document."""
    cu_seqlens: Tensor
    """(documents + 1,) int32: document i is [cu_seqlens[i], cu_seqlens[i + 1])."""
    supervised: Tensor
    """(T,) bool: this token is a target."""
    images: Tensor | None = None
    """(N, H, W, 3) uint8 squares, or (N, 3, H, W) normalised pixels."""
    features: Tensor | None = None
    """(N, P, Dv) features of the frozen tower, from a cache."""


def packed_forward(
    model: LlavaForConditionalGeneration,
    inputs: PackedInputs,
    recipe: PixelRecipe,
    entropy: Entropy = plain_entropy,
) -> tuple[Tensor, int]:
    """The loss summed over supervised tokens, and their number S; divide as the batch requires.

    A document's first token has nothing that predicts it and is never counted. The loss is float32,
    and depends on every parameter of the projector even in a row of text, so `backward` always
    works. `model` comes from `load_model`, whose attention keeps documents apart.
    """
    device = model.lm_head.weight.device
    if device.type == "cpu" and len(inputs.ids) >= LONG:
        inputs = _rounded(inputs)
    embeddings = model.get_input_embeddings()(inputs.ids.to(device))
    embeddings = _with_images(model, embeddings, inputs, recipe)
    hidden = model.model.language_model(
        inputs_embeds=embeddings[None],
        attention_mask=as_mask(inputs.cu_seqlens),
        position_ids=inputs.positions.to(device)[None],
        use_cache=False,
    ).last_hidden_state[0]
    targets = _targets(inputs)
    predicting, wanted = hidden[(targets - 1).to(device)], inputs.ids[targets].to(device)
    return head_loss(model.lm_head, predicting, wanted, entropy), len(targets)


def _rounded(inputs: PackedInputs) -> PackedInputs:
    """The row, filled up to a multiple of SIZES by a document that nothing is learned from.

    oneDNN compiles and keeps a kernel for every size of product that it meets, so rows of every
    length cost hundreds of megabytes over a run. A document sees no other: the loss is the same.
    """
    extra = -len(inputs.ids) % SIZES
    if extra == 0:
        return inputs
    end = inputs.cu_seqlens[-1:] + extra
    nothing = inputs.supervised.new_zeros(extra)
    return replace(
        inputs,
        ids=torch.cat([inputs.ids, inputs.ids.new_zeros(extra)]),
        positions=torch.cat([inputs.positions, torch.arange(extra).to(inputs.positions)]),
        cu_seqlens=torch.cat([inputs.cu_seqlens, end]),
        supervised=torch.cat([inputs.supervised, nothing]),
    )


def _with_images(
    model: LlavaForConditionalGeneration,
    embeddings: Tensor,
    inputs: PackedInputs,
    recipe: PixelRecipe,
) -> Tensor:
    """(T, D) -> (T, D), with projected features (N, P, Dv) -> (N * P, D) at image tokens."""
    projector = model.model.multi_modal_projector
    weight = projector.linear_1.weight
    if inputs.features is not None:
        features = inputs.features.to(weight.device)
    elif inputs.images is not None:
        features = image_features(model, inputs.images, recipe)
    else:
        nothing = weight.new_zeros(1, 1, weight.shape[1])
        zero: Tensor = 0 * projector(nothing).sum().to(embeddings.dtype)
        return embeddings + zero
    places = (inputs.ids == model.config.image_token_id).nonzero()[:, 0]
    if len(places) != features.shape[0] * features.shape[1]:
        raise ValueError(
            f"{len(places)} image tokens for {features.shape[0]} images of {features.shape[1]}"
        )
    projected: Tensor = projector(features.to(weight.dtype)).flatten(0, 1).to(embeddings.dtype)
    return embeddings.index_copy(0, places.to(embeddings.device), projected)


def _targets(inputs: PackedInputs) -> Tensor:
    """(S,): where the supervised tokens are; position - 1 predicts them."""
    first = torch.zeros_like(inputs.supervised)
    first[inputs.cu_seqlens[:-1].long()] = True
    return (inputs.supervised & ~first).nonzero()[:, 0]

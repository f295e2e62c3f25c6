"""The training forward: packed tokens and images in, the summed loss of supervised tokens out.

Reads from top to bottom: features -> projector -> embeddings with images in their places -> body of
the LM, documents apart -> hidden states that predict a supervised token -> head -> cross-entropy.
Logits exist at supervised positions only. The equality tests hold it to plain Hugging Face,
sample by sample, in loss and gradients.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint as recompute
from transformers import LlavaForConditionalGeneration

from neva.images import PixelRecipe
from neva.model.attention import as_mask
from neva.model.features import image_features

CHUNK = 256  # supervised positions whose logits are in memory at once
CUDA_CHUNK = 1024
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
    model: LlavaForConditionalGeneration, inputs: PackedInputs, recipe: PixelRecipe
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
    return (
        _loss(model, hidden[(targets - 1).to(device)], inputs.ids[targets].to(device)),
        len(targets),
    )


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


def _loss(model: LlavaForConditionalGeneration, hidden: Tensor, targets: Tensor) -> Tensor:
    """(S, D), (S,) -> the summed cross-entropy; logits are made some rows at a time."""
    if len(targets) == 0:
        return hidden.float().sum()  # of no rows: zero, with a gradient
    head = model.lm_head
    rows = CUDA_CHUNK if hidden.is_cuda else CHUNK
    if type(head) is torch.nn.Linear and head.bias is None and _plain(head.weight):
        learns = torch.is_grad_enabled()
        return cast(Tensor, _HeadLoss.apply(hidden, head.weight, targets, rows, learns))  # type: ignore[no-untyped-call]
    losses = [
        recompute(_cross_entropy, head, h, t, use_reentrant=False)
        for h, t in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.stack(losses).sum()


def _plain(weight: Tensor) -> bool:
    """False for DTensors and quantised weights, which only their own modules know how to use."""
    return type(weight) in (Tensor, torch.nn.Parameter) and weight.is_floating_point()


def _cross_entropy(head: torch.nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = cast(Tensor, head(hidden)).float()
    return cross_entropy(logits, targets, reduction="sum")


class _HeadLoss(Function):
    """The summed cross-entropy of hidden (S, D) @ weight (V, D) transposed, at targets (S,).

    The gradient is computed with the loss, `rows` at a time, so that no logits wait for the
    backward pass and none are computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int, learns: bool
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        dhidden = torch.empty_like(hidden) if learns and ctx.needs_input_grad[0] else None
        dweight = torch.zeros_like(weight) if learns and ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            wanted = targets[part, None]
            logits = (hidden[part] @ weight.t()).float()
            every = logits.logsumexp(1, keepdim=True)
            total += (every - logits.gather(1, wanted)).sum()
            if dhidden is None and dweight is None:
                continue
            shares = logits.sub_(every).exp_()  # softmax, and from here on its gradient
            shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, -1.0))
            given = shares.to(weight.dtype)
            if dhidden is not None:
                dhidden[part] = given @ weight
            if dweight is not None:
                dweight.addmm_(given.t(), hidden[part])
        ctx.save_for_backward(dhidden, dweight)
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        dhidden, dweight = ctx.saved_tensors
        # In place: another copy would stand beside all activations.
        scaled = (None if part is None else part.mul_(g) for part in (dhidden, dweight))
        return (*scaled, None, None, None)

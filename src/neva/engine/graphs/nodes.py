"""The few graph pieces that both towers share: constants, compressed weights, linears, norms.

Weights are stored as OpenVINO stores a compressed model: a small constant, a Convert, and for
int8 and int4 a Subtract and a Multiply; the CPU plugin fuses that chain into its matrix kernels.
"""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from openvino import Model, PartialShape, Shape, Tensor, Type, opset15

from neva.engine.precision import Weights

Node = Any  # openvino's nodes carry no types
Array = NDArray[Any]
GROUP = 64  # values that share a scale in int4
PLAIN = (Type.i64, Type.i32, Type.f32)
SMALL = 8  # numbers of a constant that may be shared


def i64(*values: int) -> Node:
    """A vector of integers: shapes, axes, slice bounds."""
    return opset15.constant(np.array(values, np.int64))


def scalar(value: int) -> Node:
    """One integer without dimensions, e.g. a Gather's axis."""
    return opset15.constant(np.array(value, np.int64))


def real(value: float) -> Node:
    """One float32 number."""
    return opset15.constant(np.float32(value))


def exact(tensor: Array) -> Node:
    """A float32 node with exactly `tensor`'s values, kept on disk in the tensor's own type."""
    if tensor.dtype == ml_dtypes.bfloat16:
        bits = np.ascontiguousarray(tensor).view(np.uint16)
        constant = opset15.constant(Tensor(bits, Shape(bits.shape), Type.bf16), shared_memory=False)
        return opset15.convert(constant, Type.f32)
    if tensor.dtype == np.float16:
        return opset15.convert(opset15.constant(np.ascontiguousarray(tensor)), Type.f32)
    return opset15.constant(np.ascontiguousarray(tensor, dtype=np.float32))


def quantise(weight: Array) -> tuple[Array, Array, Array]:
    """(rows, columns) -> (uint8 codes, uint8 zero point per row, float32 scale per row).

    Asymmetric: weight is about (codes - zero) * scale, and 0 is represented exactly.
    """
    values = np.asarray(weight, dtype=np.float32)
    low = np.minimum(values.min(axis=1, keepdims=True), 0)
    high = np.maximum(values.max(axis=1, keepdims=True), 0)
    scale = (high - low) / np.float32(255)
    scale[scale == 0] = 1
    zero = np.clip(np.rint(-low / scale), 0, 255)
    codes = np.clip(np.rint(values / scale) + zero, 0, 255)
    return codes.astype(np.uint8), zero.astype(np.uint8), scale.astype(np.float32)


def quantise_groups(weight: Array, group: int = GROUP) -> tuple[Array, Array, Array]:
    """(rows, columns) -> codes (rows, groups, group) in 0..15, zero point and scale per group."""
    grouped = np.asarray(weight, dtype=np.float32).reshape(weight.shape[0], -1, group)
    low = np.minimum(grouped.min(axis=2, keepdims=True), 0)
    high = np.maximum(grouped.max(axis=2, keepdims=True), 0)
    scale = (high - low) / np.float32(15)
    scale[scale == 0] = 1
    zero = np.clip(np.rint(-low / scale), 0, 15)
    codes = np.clip(np.rint(grouped / scale) + zero, 0, 15)
    return codes.astype(np.uint8), zero.astype(np.uint8), scale.astype(np.float32)


def _four_bits(values: Array) -> Node:
    """A constant of 4-bit numbers, two to a byte, the first one low."""
    flat = values.reshape(-1, 2)
    packed = np.ascontiguousarray(flat[:, 0] | (flat[:, 1] << 4))
    tensor = Tensor(packed, Shape(values.shape), Type.u4)
    return opset15.convert(opset15.constant(tensor, shared_memory=False), Type.f32)


def _int4(weight: Array) -> Node:
    codes, zero, scale = quantise_groups(weight)
    centred = opset15.subtract(_four_bits(codes), _four_bits(zero))
    scaled = opset15.multiply(centred, opset15.constant(scale))
    return opset15.reshape(scaled, i64(*weight.shape), False)


def matrix(weight: Array, weights: Weights) -> Node:
    """A weight matrix as a float32 node, compressed to 8 or 4 bits per value if asked.

    Where rows do not divide into groups, 4 bits become 8.
    """
    if weights == "exact":
        return exact(weight)
    # zero points come in pairs too: an even number of groups in all
    if weights == "int4" and not weight.shape[1] % GROUP and not weight.size // GROUP % 2:
        return _int4(weight)
    codes, zero, scale = quantise(weight)
    centred = opset15.subtract(
        opset15.convert(opset15.constant(codes), Type.f32),
        opset15.convert(opset15.constant(zero), Type.f32),
    )
    return opset15.multiply(centred, opset15.constant(scale))


def eight(weights: Weights) -> Weights:
    """For what loses too much by 4 bits: the word table, the head, the vision tower get 8."""
    return "int8" if weights == "int4" else weights


def linear(x: Node, weight: Array, bias: Array | None = None, weights: Weights = "exact") -> Node:
    """x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    y = opset15.matmul(x, matrix(weight, weights), False, True)
    return y if bias is None else opset15.add(y, exact(bias))


def split(x: Node, axis: int, *sizes: int) -> list[Node]:
    """Parts of these sizes along an axis, in their order."""
    return list(opset15.variadic_split(x, scalar(axis), i64(*sizes)).outputs())


def rms_norm(x: Node, weight: Array, eps: float) -> Node:
    """Llama's norm, in the form that the CPU plugin fuses to one kernel."""
    variance = opset15.reduce_mean(opset15.power(x, real(2)), i64(-1), keep_dims=True)
    inverse = opset15.divide(real(1), opset15.sqrt(opset15.add(variance, real(eps))))
    return opset15.multiply(opset15.multiply(x, inverse), exact(weight))


def layer_norm(x: Node, weight: Array, bias: Array, eps: float) -> Node:
    """CLIP's norm over the last dimension."""
    normal = opset15.mvn(x, i64(-1), True, eps, "inside_sqrt")
    return opset15.add(opset15.multiply(normal, exact(weight)), exact(bias))


def parameter(name: str, shape: list[int], kind: Type) -> Node:
    """A named graph input; -1 is a free dimension."""
    node = opset15.parameter(PartialShape(shape), kind, name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def model(name: str, output: str, result: Node, inputs: list[Node], sinks: list[Node]) -> Model:
    """A whole graph with one named output."""
    result.output(0).get_tensor().set_names({output})
    return _unified(Model([opset15.result(result)], sinks, inputs, name))


def _unified(whole: Model) -> Model:
    """The same with one constant for all small ones that are equal, such as axes and shapes.

    They are a fifth of a language model's nodes, and every pass of its loading visits each: .5 s
    instead of .6 for 30 layers.
    """
    known: dict[tuple[str, tuple[int, ...], bytes], Node] = {}
    for node in whole.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() not in PLAIN:
            continue
        shape = tuple(node.get_output_shape(0))
        if np.prod(shape, dtype=np.int64) > SMALL:
            continue
        key = (str(node.get_element_type()), shape, node.get_data().tobytes())
        first = known.setdefault(key, node)
        if first is not node:
            for user in node.output(0).get_target_inputs():
                user.replace_source_output(first.output(0))
    return whole

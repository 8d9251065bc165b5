"""What float rounding leaves open: bounds of a tensor of the ONNX model, whatever order and contraction its sums were computed in.

From tensors that are known exactly, each operator of the ONNX model computes an interval instead of a number. It is as wide as rounding
can make it, `SLACK` times the magnitude of the terms that were added up, and has no width at all where float32 computes exactly (sums of
small integers, so a binary layer's accumulator). A Sign of an interval that holds 0 may be either; such a bit is a tie that the source's
own rounding decides. No pattern of a quantizer's spelling is needed: a discrete operator splits the interval, whatever it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["SLACK", "Bounds", "RoundingBounds"]

SLACK = 8 * 2.0**-23
"""Rounding of a sum, relative to the magnitudes of its terms. Sums of n terms in vector registers err by about sqrt(n) * 2^-24."""

_MOVED = frozenset(
    "Identity Reshape Transpose Flatten Squeeze Unsqueeze Slice Concat Split Pad Gather GatherND GatherElements Expand Tile "
    "DepthToSpace SpaceToDepth Dropout Cast Shape ConstantOfShape Constant Range".split()
)
_DISCRETE = frozenset(
    "Sign Greater GreaterOrEqual Less LessOrEqual Not And Or Xor Where Floor Ceil Round Neg Abs Relu Max Min Clip".split()
)
_ROUNDED = frozenset("Mul Div Sqrt Pow Exp Log Tanh Sigmoid HardSigmoid HardSwish PRelu LeakyRelu Reciprocal Erf Softplus Elu Selu".split())
_SUMS = frozenset("Add Sub Sum Mean".split())
_KINKED = frozenset("Abs PRelu LeakyRelu Pow HardSwish".split())  # not monotone where the operand passes 0
_LINEAR = frozenset("Conv ConvTranspose MatMul Gemm AveragePool GlobalAveragePool ReduceMean ReduceSum".split())
_MAXIMA = frozenset("MaxPool GlobalMaxPool ReduceMax".split())


@dataclass(frozen=True)
class Bounds:
    """Least and largest number that each element of a tensor may be, both float64, or of its own dtype where it is not float."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def exactly(cls, array: np.ndarray) -> Bounds:
        """Return the bounds of what is known."""
        wide = array.astype(np.float64) if array.dtype.kind == "f" else array
        return cls(wide, wide)

    @property
    def is_exact(self) -> bool:
        """Whether every element is known."""
        return self.low is self.high or bool(np.array_equal(self.low, self.high))


class _Unknown(Exception):
    """An operator that the analysis does not know; it stays inside this module."""


class RoundingBounds:
    """Bounds of the tensors of a model.

    Parameters
    ----------
    model : ModelProto
        In standard operators.
    constants : callable
        Takes names of tensors that depend on no input, returns their values by name.
    """

    def __init__(self, model: onnx.ModelProto, constants: Callable[[list[str]], Mapping[str, np.ndarray]]):
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._ir_version = model.ir_version
        self._nodes = {name: node for node in model.graph.node for name in node.output if name}
        self._stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._constants = constants
        self._fixed = self._find_fixed(model)
        moving = [node for node in model.graph.node if not any(name in self._fixed for name in node.output)]
        self._fixed_read = list(dict.fromkeys(i for node in moving for i in node.input if i in self._fixed and i not in self._stored))
        self._values: dict[str, np.ndarray] = {}
        self._sessions: dict[tuple, onnxruntime.InferenceSession] = {}

    def _find_fixed(self, model: onnx.ModelProto) -> set[str]:
        """Return the computed tensors that depend on no input."""
        fixed = set(self._stored)
        for node in model.graph.node:  # in topological order, as ONNX asks
            if not any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute) and all(
                i in fixed for i in node.input if i
            ):
                fixed.update(name for name in node.output if name)
        return fixed

    def of(self, tensor: str, known: Mapping[str, np.ndarray]) -> Bounds | None:
        """Return the bounds of a tensor.

        Parameters
        ----------
        tensor : str
        known : mapping of str to ndarray
            Tensors that are known exactly; every path back from `tensor` should meet one.

        Returns
        -------
        Bounds or None
            None where an operator on the way is not known to this analysis.
        """
        memo = {name: Bounds.exactly(array) for name, array in known.items() if name != tensor}
        try:
            return self._bounds(tensor, memo)
        except _Unknown:
            return None

    def _bounds(self, name: str, memo: dict[str, Bounds]) -> Bounds:
        pending = [name]
        while pending:  # a loop: a deep chain would exhaust the stack
            current = pending[-1]
            if current in memo:
                pending.pop()
                continue
            if current in self._fixed:
                memo[current] = Bounds.exactly(self._constant(current))
                continue
            node = self._nodes.get(current)
            if node is None:
                raise _Unknown(current)
            missing = [i for i in node.input if i and i not in memo]
            if missing:
                pending.extend(missing)
                continue
            with np.errstate(all="ignore"):
                results = self._apply(node, [memo[i] if i else None for i in node.input])
            memo.update({output: bounds for output, bounds in zip(node.output, results) if output and output not in memo})
            if current not in memo:
                raise _Unknown(current)
        return memo[name]

    def _constant(self, name: str) -> np.ndarray:
        if name in self._stored:
            return self._stored[name]
        if name not in self._values:  # all at once: the reference runs for it
            wanted = self._fixed_read if name in self._fixed_read else [name]
            self._values.update(self._constants(wanted))
        return self._values[name]

    def _apply(self, node: onnx.NodeProto, inputs: list[Bounds | None]) -> list[Bounds]:
        kind = node.op_type
        if node.domain not in ("", "ai.onnx"):
            raise _Unknown(kind)
        if kind in _MOVED:
            return self._moved(node, inputs)
        if kind == "Equal":
            return [_equal(*inputs)]
        if kind in _DISCRETE or kind in _ROUNDED or kind in _SUMS:
            return [self._elementwise(node, inputs)]
        if kind == "BatchNormalization":
            return [_normalized(node, inputs)]
        if kind in _MAXIMA:
            return [
                Bounds(*(self._in_onnxruntime(node, [_as_float32(getattr(inputs[0], side)), *_rest(inputs)]) for side in ("low", "high")))
            ]
        if kind in _LINEAR:
            return [self._linear(node, inputs)]
        if kind == "Resize":
            return [self._resized(node, inputs)]
        raise _Unknown(kind)

    def _moved(self, node, inputs) -> list[Bounds]:
        low = self._in_numpy(node, [None if b is None else b.low for b in inputs])
        if all(b is None or b.is_exact for b in inputs):
            return [Bounds(array, array) for array in low]
        high = self._in_numpy(node, [None if b is None else b.high for b in inputs])
        return [Bounds(a, b) for a, b in zip(low, high, strict=True)]

    def _elementwise(self, node, inputs) -> Bounds:
        """Evaluate at the corners: these operators are monotone in each operand, apart from a kink at 0."""
        choices = []
        for b in inputs:
            if b is None or b.is_exact:
                choices.append([None if b is None else b.low])
            else:
                kink = [np.clip(0.0, b.low, b.high)] if node.op_type in _KINKED else []
                choices.append([b.low, b.high, *kink])
        corners = [self._in_numpy(node, list(corner))[0] for corner in itertools.product(*choices)]
        low, high = corners[0], corners[0]
        for corner in corners[1:]:
            low, high = np.minimum(low, corner), np.maximum(high, corner)
        if low.dtype.kind != "f" or node.op_type in _DISCRETE:
            return Bounds(low, high)
        terms = np.maximum(np.abs(low), np.abs(high))
        if node.op_type in _SUMS:
            terms = sum(np.maximum(np.abs(b.low), np.abs(b.high)) for b in inputs)
        return _widened(low, high, terms)

    def _resized(self, node, inputs) -> Bounds:
        """Resize both ends: nearest neighbours are moved, linear interpolation has no negative weights and rounds."""
        mode = next((a.s.decode() for a in node.attribute if a.name == "mode"), "nearest")
        if mode not in ("nearest", "linear") or not all(b is None or b.is_exact for b in inputs[1:]):
            raise _Unknown(mode)
        others = [_as_float32(o) if o is not None and o.dtype.kind == "f" else o for o in _rest(inputs)]

        def at(array: np.ndarray) -> np.ndarray:
            return self._in_onnxruntime(node, [_as_float32(array), *others]).astype(np.float64)

        x = inputs[0]
        low, high = at(x.low), at(x.high)
        slack = 0.0 if mode == "nearest" else SLACK * at(np.maximum(np.abs(x.low), np.abs(x.high)))
        return Bounds(low - slack, high + slack)

    def _linear(self, node, inputs) -> Bounds:
        """Bound sums of products with known factors: the middle, plus what the operand's own width and the rounding of the sum add."""
        moving = [i for i, b in enumerate(inputs) if b is not None and not b.is_exact]
        data = moving[0] if moving else 0
        if len(moving) > 1:
            raise _Unknown(node.op_type)
        x = inputs[data]
        if x.low.dtype.kind != "f":
            raise _Unknown(node.op_type)
        middle, radius = _as_float32((x.low + x.high) / 2), (x.high - x.low) / 2
        others = [None if b is None else b.low for b in inputs]
        factors = [None if o is None else (_as_float32(o) if o.dtype.kind == "f" else o) for o in others]
        sizes = [None if f is None else (np.abs(f) if f.dtype.kind == "f" else f) for f in factors]

        def at(values: list, array: np.ndarray) -> np.ndarray:
            values = list(values)
            values[data] = array
            return self._in_onnxruntime(node, values).astype(np.float64)

        centre, terms = at(factors, middle), at(sizes, np.abs(middle))
        spread = np.zeros_like(centre)
        if moving:
            without_bias = [
                np.zeros_like(s) if i == 2 and s is not None and node.op_type in ("Conv", "ConvTranspose", "Gemm") else s
                for i, s in enumerate(sizes)
            ]
            spread = at(without_bias, _as_float32(radius + 2.0**-24 * np.abs(middle)))
        slack = SLACK * terms
        if not moving and node.op_type in ("Conv", "MatMul", "Gemm", "ReduceSum"):
            grid = np.prod(
                [
                    _grid(f)
                    for f in (middle, *(f for i, f in enumerate(factors) if i not in (data, 2) and f is not None and f.dtype.kind == "f"))
                ]
            )
            bias = factors[2] if len(factors) > 2 and node.op_type != "ReduceSum" else None
            grid = grid if bias is None else min(grid, _grid(bias))
            slack = np.where(terms <= 2.0**24 * grid, 0.0, slack)
        return Bounds(centre - spread - slack, centre + spread + slack)

    def _in_numpy(self, node, arrays) -> list[np.ndarray]:
        names = [name for name in node.input if name]
        given = {name: array for name, array in zip(node.input, arrays, strict=True) if name}
        if node.op_type == "Cast":
            return [_cast(node, arrays[0])]
        try:
            results = ReferenceEvaluator(node, opsets=self._opsets).run(None, {name: given[name] for name in names})
        except Exception as error:  # the evaluator raises whatever NumPy does
            raise _Unknown(node.op_type) from error
        return [np.asarray(result) for result in results]

    def _in_onnxruntime(self, node, arrays) -> np.ndarray:
        key = (node.output[0], *(None if a is None else (a.shape, a.dtype.str) for a in arrays))
        if key not in self._sessions:
            self._sessions[key] = self._session(node, arrays)
        given = {name: np.asarray(array, order="C") for name, array in zip(node.input, arrays, strict=True) if name}
        try:
            return self._sessions[key].run([node.output[0]], given)[0]
        except Exception as error:  # onnxruntime's own classes share no base
            raise _Unknown(node.op_type) from error

    def _session(self, node, arrays) -> onnxruntime.InferenceSession:
        values = {
            name: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(node.input, arrays, strict=True)
            if name
        }
        graph = helper.make_graph([node], "node", list(values.values()), [onnx.ValueInfoProto(name=node.output[0])])
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(d, v) for d, v in self._opsets.items()], ir_version=self._ir_version
        )
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes share no base
            raise _Unknown(node.op_type) from error


def _widened(low: np.ndarray, high: np.ndarray, terms: np.ndarray) -> Bounds:
    """Widen by rounding, except where the one value is a float32 number: an exact result is not rounded."""
    exact = (low == high) & (low == low.astype(np.float32))
    slack = np.where(exact, 0.0, SLACK * terms)
    return Bounds(low - slack, high + slack)


def _normalized(node, inputs) -> Bounds:
    x, scale, bias, mean, variance = inputs[:5]
    if not all(b.is_exact for b in inputs[1:5]) or len([o for o in node.output if o]) > 1:
        raise _Unknown(node.op_type)
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    along = (-1, *(1,) * (x.low.ndim - 2))
    gain = (scale.low / np.sqrt(variance.low + epsilon)).reshape(along)
    shift, beta = mean.low.reshape(along), bias.low.reshape(along)
    ends = [(side - shift) * gain + beta for side in (x.low, x.high)]
    terms = np.maximum(np.abs(x.low), np.abs(x.high)) * np.abs(gain) + np.abs(shift * gain) + np.abs(beta)
    return Bounds(np.minimum(*ends) - SLACK * terms, np.maximum(*ends) + SLACK * terms)


def _equal(a: Bounds, b: Bounds) -> Bounds:
    possible = (
        (a.low <= b.high) & (b.low <= a.high)
        if a.low.dtype.kind != "b"
        else (a.low | ~b.high) & (b.low | ~a.high) | (a.low != a.high) | (b.low != b.high)
    )
    certain = (a.low == a.high) & (b.low == b.high) & (a.low == b.low)
    return Bounds(certain, possible)


def _cast(node, array: np.ndarray) -> np.ndarray:
    dtype = helper.tensor_dtype_to_np_dtype(next(a.i for a in node.attribute if a.name == "to"))
    if dtype == np.float32:
        return array.astype(np.float64)
    if dtype.kind == "f":
        raise _Unknown("Cast")  # to half or double: another rounding
    return array.astype(dtype)


def _as_float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)


def _rest(inputs) -> list:
    return [None if b is None else b.low for b in inputs[1:]]


def _grid(array: np.ndarray) -> float:
    """Return the largest power of two that divides every number of the array; 1 where all are 0."""
    values = np.unique(np.abs(array[array != 0]).astype(np.float32))
    if not values.size:
        return 1.0
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * 2.0**24).astype(np.int64)
    return float(np.min((whole & -whole) * 2.0 ** (exponent.astype(np.float64) - 24)))

"""What an operator converter sees of its node, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from tvm import relax
from tvm.ir import GenericConst

from bnncc.errors import ModelShapeError, UnsupportedOperator
from bnncc.frontend.onnx_graph import attributes, title

__all__ = ["Conversion", "converts", "constant_of", "CONVERTERS"]

CONVERTERS: dict[str, Callable[[Conversion], relax.Expr | list[relax.Expr]]] = {}


def converts(*op_types: str) -> Callable:
    """Register a converter for nodes of these types of the standard domain.

    A converter returns the expression of the node's output, or a list of them; not one bound to a variable yet, unless the
    node hands a value on unchanged.
    """

    def register(function: Callable) -> Callable:
        CONVERTERS.update(dict.fromkeys(op_types, function))
        return function

    return register


def constant_of(array: np.ndarray) -> GenericConst:
    """Return the array as a constant of its own element type; relax.const alone would cut int64 to int32."""
    return relax.const(array, str(array.dtype))


class Conversion:
    """One node being converted.

    Parameters
    ----------
    node
        The node; its attributes are in ``attributes``, strings decoded.
    inputs
        Its inputs as Relax variables or constants, None where left out.
    opset
        Version of the standard operator set.
    bind
        Binds an inner expression to a fresh variable and returns that.
    normalize
        Gives an expression its type.
    """

    def __init__(
        self,
        node: onnx.NodeProto,
        inputs: list[relax.Expr | None],
        opset: int,
        bind: Callable[[relax.Expr], relax.Var],
        normalize: Callable[[relax.Expr], relax.Expr],
    ):
        self.node, self.opset, self.attributes = node, opset, attributes(node)
        self._inputs, self._bind, self._normalize = inputs, bind, normalize

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> relax.Expr:
        """Return input ``index``, which the operator requires."""
        value = self.get(index)
        if value is None:
            raise self.unsupported(f"its input {index} is missing, which the operator requires. Export the model again.")
        return value

    def get(self, index: int) -> relax.Expr | None:
        """Return input ``index``, or None where it is left out."""
        return self._inputs[index] if index < len(self._inputs) else None

    @property
    def inputs(self) -> list[relax.Expr | None]:
        """All inputs."""
        return list(self._inputs)

    def emit(self, expr: relax.Expr) -> relax.Expr:
        """Bind an inner step of the conversion; variables and constants stay as they are."""
        return expr if isinstance(expr, relax.Var | GenericConst) else self._bind(expr)

    def unsupported(self, reason: str) -> UnsupportedOperator:
        """Return the error that says why this node cannot be taken."""
        return UnsupportedOperator(f"{title(self.node)}: {reason}")

    def misshapen(self, reason: str) -> ModelShapeError:
        """Return the error that says why this node and its inputs' shapes contradict each other."""
        return ModelShapeError(f"{title(self.node)}: {reason}")

    def shape(self, expr: relax.Expr) -> tuple[int, ...]:
        """Return the static shape of a variable, constant or expression."""
        return tuple(int(d) for d in self._normalize(expr).ty.shape.values)

    def dtype(self, expr: relax.Expr) -> str:
        """Return the element type as NumPy spells it."""
        return str(self._normalize(expr).ty.dtype)

    def array(self, index: int) -> np.ndarray | None:
        """Return input ``index`` as an array where it is constant."""
        value = self.get(index)
        return value.value.numpy() if isinstance(value, GenericConst) else None

    def constant(self, index: int, what: str) -> np.ndarray:
        """Return the constant input ``index``; raises UnsupportedOperator where it is computed from the model's inputs."""
        value = self.array(index)
        if value is None:
            raise self.unsupported(
                f"its {what} (input {index}) depends on the model's input; only a constant is supported. Export the model with "
                "fixed shapes, or with that value fixed."
            )
        return value

    def ints(self, index: int, attribute: str, what: str) -> list[int] | None:
        """Return a list of integers that newer opsets give as a constant input, older ones as an attribute; None if absent."""
        if self.get(index) is not None:
            return [int(v) for v in self.constant(index, what).reshape(-1)]
        value = self.attributes.get(attribute)
        return None if value is None else [int(v) for v in value]

    def in_bounds(self, indices: np.ndarray, size: int, axis: int) -> np.ndarray:
        """Return indices counted from the front of an axis of that size; raises ModelShapeError where one is outside of it."""
        if indices.size and (indices.min() < -size or indices.max() >= size):
            shape = list(self.shape(self[0]))
            raise self.misshapen(f"its indices run from {indices.min()} to {indices.max()}, outside of axis {axis} of an input of shape {shape}.")
        return np.where(indices < 0, indices + size, indices).astype(np.int64)

    def like(self, value: float, expr: relax.Expr) -> GenericConst:
        """Return ``value`` as a scalar constant of the element type of ``expr``."""
        return constant_of(np.asarray(value, self.dtype(expr)))

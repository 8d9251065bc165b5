"""Writing the standard operators that replace one node of a quantizer domain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from bnncc.errors import UnsupportedOperator
from bnncc.frontend.onnx_graph import attributes, fresh_name, title
from bnncc.frontend.shapes import TensorType

__all__ = ["Rewriter", "rewrites", "REWRITES"]

REWRITES: dict[str, Callable[[Rewriter], None]] = {}


def rewrites(*op_types: str, inputs: int) -> Callable:
    """Register the function that rewrites nodes of these types, which must have at least that many inputs."""

    def register(function: Callable) -> Callable:
        def rewrite(rewriter: Rewriter) -> None:
            given = len([name for name in rewriter.node.input[:inputs] if name])
            if given < inputs or not rewriter.node.output:
                raise rewriter.unsupported(f"it takes {inputs} inputs, this one has {given}. Export the model again.")
            function(rewriter)

        REWRITES.update(dict.fromkeys(op_types, rewrite))
        return function

    return register


class Rewriter:
    """One node being replaced: what it reads, and the nodes and constants that take its place.

    Parameters
    ----------
    node
        The node to replace.
    opset
        Version of the standard operators to write.
    types
        What is known of the graph's tensors.
    constant
        Gives the value of a tensor that does not depend on the model's inputs, else None.
    taken
        Tensor names in use; grows.
    """

    def __init__(
        self, node: onnx.NodeProto, opset: int, types: dict[str, TensorType], constant: Callable[[str], np.ndarray | None], taken: set[str]
    ):
        self.node, self.opset, self._types, self._constant, self._taken = node, opset, types, constant, taken
        self.attributes = attributes(node)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def unsupported(self, reason: str) -> UnsupportedOperator:
        """Return the error that says why this node cannot be taken."""
        return UnsupportedOperator(f"{title(self.node)}: {reason}")

    def constant(self, index: int, what: str) -> np.ndarray:
        """Return the constant value of input ``index``.

        Raises
        ------
        UnsupportedOperator
            The input is absent or depends on the model's inputs.
        """
        value = self._constant(self.node.input[index]) if index < len(self.node.input) and self.node.input[index] else None
        if value is None:
            raise self.unsupported(
                f"its {what} (input {index}) is missing or not constant; it must be a constant. Export the model with a fixed one."
            )
        return value

    def maybe_constant(self, index: int) -> np.ndarray | None:
        """Return the value of input ``index`` where it is constant."""
        return self._constant(self.node.input[index])

    def scalar(self, index: int, what: str) -> float:
        """Return the constant input ``index`` as one number; raises UnsupportedOperator where it is none."""
        value = self.constant(index, what)
        if value.size != 1:
            raise self.unsupported(f"its {what} has {value.size} values; one for the whole tensor is supported.")
        return value.item()

    def shape(self, index: int) -> tuple[int | None, ...]:
        """Return the shape of input ``index``; its rank must be known, else UnsupportedOperator."""
        known = self._types.get(self.node.input[index])
        if known is None or known.shape is None:
            raise self.unsupported(
                f"the rank of its input '{self.node.input[index]}' cannot be told. Run shape inference on the model before."
            )
        return known.shape

    def is_scalar(self, index: int, number: float) -> bool:
        """Whether input ``index`` is constantly ``number`` and leaves the shape of input 0 as it is."""
        value = self.maybe_constant(index)
        if value is None or value.size != 1 or value.item() != number:
            return False
        known = self._types.get(self.node.input[0])
        return value.ndim <= (len(known.shape) if known is not None and known.shape is not None else 1)

    def weight(self, value: np.ndarray | float, hint: str) -> str:
        """Add a constant (float32 if a plain number); return its name."""
        array = np.asarray(value, np.float32) if isinstance(value, float) else np.asarray(value)
        name = fresh_name(f"{self.node.output[0]}_{hint}", self._taken)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def emit(self, op_type: str, *inputs: str, last: bool = False, **attrs: object) -> str:
        """Add a node; return its output's name, the replaced node's own where this is the last one."""
        output = self.node.output[0] if last else fresh_name(f"{self.node.output[0]}_{op_type}", self._taken)
        # The last node keeps the name: tensor and node names of the source stay findable. The others' follow from unique tensor names.
        self.nodes.append(
            onnx.helper.make_node(op_type, list(inputs), [output], self.node.name if last else f"{self.node.name}/{output}", **attrs)
        )
        return output

    def finish(self, name: str) -> None:
        """Give the tensor ``name``, which this rewriter made, the replaced node's output name."""
        last = next(node for node in self.nodes if node.output[0] == name)
        last.output[0], last.name = self.node.output[0], self.node.name

    # Operators whose form changed between opsets.

    def at_least(self, x: str, bound: str) -> str:
        """``x >= bound`` as bool."""
        return self.emit("GreaterOrEqual", x, bound) if self.opset >= 12 else self.emit("Not", self.emit("Less", x, bound))

    def clip(self, x: str, low: float, high: float) -> str:
        """``min(max(x, low), high)``."""
        if self.opset < 11:
            return self.emit("Clip", x, min=low, max=high)
        return self.emit("Clip", x, self.weight(float(low), "min"), self.weight(float(high), "max"))

    def round_half_even(self, x: str) -> str:
        """Nearest integer, halves to even."""
        if self.opset >= 11:
            return self.emit("Round", x)
        # No Round before opset 11: Floor, plus one where the rest is above a half, or a half above an odd number. (Adding and
        # subtracting 1.5 * 2^23 would do, too, but reads like the residue of a straight-through estimator, which later passes cancel.)
        half = self.weight(0.5, "half")
        low = self.emit("Floor", x)
        rest = self.emit("Sub", x, low)
        halved = self.emit("Mul", low, half)
        is_odd = self.emit("Greater", self.emit("Sub", halved, self.emit("Floor", halved)), self.weight(0.25, "quarter"))
        from_half = self.emit("And", self.emit("Not", self.emit("Less", rest, half)), is_odd)
        up = self.emit("Or", self.emit("Greater", rest, half), from_half)
        return self.emit("Add", low, self.emit("Cast", up, to=onnx.TensorProto.FLOAT))

    def unsqueeze(self, x: str, axis: int) -> str:
        """Insert an axis of size 1."""
        if self.opset < 13:
            return self.emit("Unsqueeze", x, axes=[axis])
        return self.emit("Unsqueeze", x, self.weight(np.asarray([axis], np.int64), "axis"))

    def sum_last(self, x: str, axis: int) -> str:
        """Sum over one axis, which goes."""
        if self.opset < 13:
            return self.emit("ReduceSum", x, axes=[axis], keepdims=0)
        return self.emit("ReduceSum", x, self.weight(np.asarray([axis], np.int64), "axis"), keepdims=0)

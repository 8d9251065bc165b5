"""An ONNX graph under construction that spells each operator as its opset wants it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Graph", "Tensor", "IR_OF_OPSET"]

IR_OF_OPSET = {8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}


class Tensor(NamedTuple):
    """A feature map: the name of its ONNX value, its channels (axis 1), and its rank."""

    name: str
    channels: int
    rank: int = 4

    def per_channel(self, values: Sequence[float]) -> np.ndarray:
        """Shape per-channel `values` (or one value) so that they broadcast against this tensor."""
        shape = (1, -1) + (1,) * (self.rank - 2)
        return np.asarray(values, np.float32).reshape(shape)


class Graph:
    """Collects nodes and constants; `model()` returns the ModelProto.

    Parameters
    ----------
    opset : int
        Version of the default domain; operators whose attributes became inputs are spelled accordingly.
    twin : bool
        Spell quantizers of custom domains in standard operators, so that onnxruntime can run the model.
    seed : int
        Seeds `rng`, from which the builders draw weights.
    """

    def __init__(self, opset: int = 17, *, ir: int | None = None, twin: bool = False, seed: int = 0, weights_as_inputs: bool = False):
        self.opset, self.twin, self.weights_as_inputs = opset, twin, weights_as_inputs
        self.ir = ir or IR_OF_OPSET[opset]
        self.rng = np.random.default_rng(seed)
        self.domains: dict[str, int | None] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._count: defaultdict[str, int] = defaultdict(int)

    def _fresh(self, stem: str) -> str:
        self._count[stem] += 1
        return f"{stem}_{self._count[stem]}"

    # -- the frame ----------------------------------------------------------------------------------------------------

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> Tensor:
        """Declare a graph input; a string is a dynamic dimension."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return Tensor(name, shape[1] if len(shape) > 1 else 0, len(shape))

    def output(self, value: str | Tensor, name: str, shape: Sequence[int | str | None], dtype: int = TensorProto.FLOAT) -> None:
        """Declare a graph output called `name`, by renaming the output of the node that makes `value`."""
        old = value.name if isinstance(value, Tensor) else value
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, used in enumerate(names):
                    if used == old:
                        names[i] = name
        self.outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def const(self, values: object, name: str | None = None, dtype: type = np.float32) -> str:
        """Add an initializer and return its name."""
        name = name or self._fresh("const")
        self.initializers.append(numpy_helper.from_array(np.array(values, dtype, order="C"), name))
        return name

    def scalar(self, value: float | bool, dtype: type = np.float32) -> str:
        """Add a `Constant` node that holds one rank-0 value, as PyTorch exports do."""
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        return self.node("Constant", value=tensor)

    def node(self, op: str, *inputs: str, name: str | None = None, outputs: int = 1, domain: str = "", **attributes: object):
        """Add a node; return the name of its output, or a list of names when `outputs` > 1."""
        made = [self._fresh(op.lower()) for _ in range(outputs)]
        node = helper.make_node(op, list(inputs), made, name=name or self._fresh(op), domain=domain, **attributes)
        self.nodes.append(node)
        return made[0] if outputs == 1 else made

    def custom(self, op: str, *inputs: str, domain: str, imported: bool = True, name: str | None = None, **attributes: object) -> str:
        """Add a node of a custom domain; `imported=False` leaves the domain out of the opset imports."""
        if domain and imported:
            self.domains[domain] = 1
        return self.node(op, *inputs, domain=domain, name=name, **attributes)

    # -- operators whose spelling depends on the opset -----------------------------------------------------------------

    def clip(self, x: str, low: float, high: float) -> str:
        if self.opset < 11:
            return self.node("Clip", x, min=float(low), max=float(high))
        return self.node("Clip", x, self.scalar(low), self.scalar(high))

    def greater_equal(self, x: str, y: str) -> str:
        if self.opset < 12:
            return self.node("Not", self.node("Less", x, y))
        return self.node("GreaterOrEqual", x, y)

    def reduce(self, op: str, x: str, axes: Sequence[int], keepdims: int = 1) -> str:
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.node(op, x, self.const(axes, dtype=np.int64), keepdims=keepdims)
        return self.node(op, x, axes=list(axes), keepdims=keepdims)

    def _with_axes(self, op: str, x: str, axes: Sequence[int]) -> str:
        if self.opset < 13:
            return self.node(op, x, axes=list(axes))
        return self.node(op, x, self.const(axes, dtype=np.int64))

    def unsqueeze(self, x: str, axes: Sequence[int]) -> str:
        return self._with_axes("Unsqueeze", x, axes)

    def squeeze(self, x: str, axes: Sequence[int]) -> str:
        return self._with_axes("Squeeze", x, axes)

    def slice(self, x: str, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], steps: Sequence[int] | None = None) -> str:
        if self.opset < 10:
            assert steps is None or set(steps) == {1}, "Slice has no steps below opset 10"
            return self.node("Slice", x, axes=list(axes), starts=list(starts), ends=list(ends))
        lists = [starts, ends, axes] + ([steps] if steps else [])
        return self.node("Slice", x, *(self.const(v, dtype=np.int64) for v in lists))

    def pad(self, x: str, pads: Sequence[int], value: float = 0.0, mode: str = "constant") -> str:
        if self.opset < 11:
            return self.node("Pad", x, pads=list(pads), value=float(value), mode=mode)
        fill = [] if mode != "constant" else [self.scalar(value)]
        return self.node("Pad", x, self.const(pads, dtype=np.int64), *fill, mode=mode)

    def split(self, x: str, sizes: Sequence[int], axis: int = 1) -> list[str]:
        if self.opset < 13:
            return self.node("Split", x, outputs=len(sizes), axis=axis, split=list(sizes))
        return self.node("Split", x, self.const(sizes, dtype=np.int64), outputs=len(sizes), axis=axis)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self.node("Reshape", x, self.const(shape, dtype=np.int64))

    def gemm(self, x: str, w: str, bias: str | None = None, name: str | None = None, **attributes: object) -> str:
        if bias is None and self.opset < 11:
            bias = self.const(0.0)
        return self.node("Gemm", x, w, *([bias] if bias else []), name=name, **attributes)

    def cast(self, x: str, to: int = TensorProto.FLOAT) -> str:
        return self.node("Cast", x, to=to)

    # -- the result ----------------------------------------------------------------------------------------------------

    def model(self) -> onnx.ModelProto:
        """Return the model; its IR version is the opset's unless given, and IR 3 lists the weights as inputs."""
        inputs = list(self.inputs)
        if self.weights_as_inputs or self.ir < 4:
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.initializers]
        graph = helper.make_graph(self.nodes, "pattern", inputs, self.outputs, self.initializers)
        imports = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid(d, v) for d, v in self.domains.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=self.ir, producer_name="bnncc-tests")

"""Single-node models: every operator that the importer converts itself, in the forms that its opsets know."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["Input", "Case", "CASES", "model_of"]


@dataclass(frozen=True)
class Input:
    """A tensor given at run time."""

    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(eq=False)
class Case:
    """One node: inputs are Input (run time), arrays (constants) or None (left out)."""

    op: str
    inputs: list
    attributes: dict = field(default_factory=dict)
    opsets: tuple[int, int] = (9, 21)
    outputs: int = 1
    exact: bool = True

    @property
    def name(self) -> str:
        shown = [list(i.shape) if isinstance(i, Input) else "const" if i is not None else "-" for i in self.inputs]
        return f"{self.op}{shown}{self.attributes}".replace(" ", "")

    def versions(self) -> list[int]:
        """The oldest and the newest opset of this form, and those in between that exporters use."""
        low, high = self.opsets
        return sorted({low, high} | {v for v in (11, 13, 17) if low < v < high})


def model_of(cases: list[Case], opset: int) -> onnx.ModelProto:
    """Put the cases side by side into one model, case i with the inputs ``i_j`` and the outputs ``o_i_k``."""
    nodes, inputs, outputs, weights = [], [], [], []
    for i, case in enumerate(cases):
        names = []
        for j, given in enumerate(case.inputs):
            name = f"i{i}_{j}" if given is not None else ""
            names.append(name)
            if isinstance(given, Input):
                inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype)), given.shape))
            elif given is not None:
                weights.append(numpy_helper.from_array(np.asarray(given), name))
        made = [f"o{i}_{k}" for k in range(case.outputs)]
        nodes.append(helper.make_node(case.op, names, made, f"node{i}", **case.attributes))
        outputs.extend(helper.make_empty_tensor_value_info(name) for name in made)
    graph = helper.make_graph(nodes, "cases", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 20 else 9)


_rng = np.random.default_rng(7)


def _f(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape).astype(np.float32)


def _i(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


X, P = Input((2, 3, 5, 4)), Input((1, 4, 7, 9))
BOOL, OTHER_BOOL = Input((3, 4), "bool"), Input((1, 4), "bool")
INT = Input((3, 4), "int32")
LARGEST = 2**63 - 1

ELEMENTWISE = [
    *(Case(op, [X]) for op in ("Neg", "Abs", "Sign", "Floor", "Ceil", "Relu")),
    *(Case(op, [X], exact=False) for op in ("Exp", "Tanh", "Sigmoid", "Reciprocal", "HardSigmoid", "LeakyRelu")),
    Case("Round", [X], opsets=(11, 21)),
    Case("HardSwish", [X], opsets=(14, 21), exact=False),
    *(Case(op, [X, Input((3, 1, 4))]) for op in ("Add", "Sub", "Mul", "Greater", "Less")),
    *(Case(op, [X, _f(3, 1, 1)]) for op in ("Add", "Div", "Mul", "Max", "Min")),
    *(Case(op, [X, Input((4,))], opsets=(12, 21)) for op in ("GreaterOrEqual", "LessOrEqual")),
    *(Case(op, [BOOL, OTHER_BOOL]) for op in ("And", "Or", "Xor")),
    Case("Not", [BOOL]),
    Case("Equal", [INT, np.asarray(1, np.int32)]),
    Case("Equal", [BOOL, OTHER_BOOL], opsets=(11, 21)),
    Case("Pow", [X, np.asarray(2, np.float32)]),
    Case("Pow", [X, np.asarray(2, np.int64)], opsets=(12, 21)),
    Case("Sum", [X, X, _f(4)]),
    Case("Mean", [X, X], exact=False),
    Case("Max", [X, X, X]),
    Case("Sum", [X]),
    Case("Clip", [X], {"min": -0.5, "max": 0.25}, (9, 10)),
    Case("Clip", [X], {"max": 0.25}, (9, 10)),
    Case("Clip", [X], {}, (9, 10)),
    Case("Clip", [X, np.float32(-0.5), np.float32(0.25)], opsets=(11, 21)),
    Case("Clip", [X, None, np.float32(0.25)], opsets=(11, 21)),
    Case("Clip", [X, np.float32(-np.inf), np.float32(np.inf)], opsets=(11, 21)),
    Case("Clip", [X, np.float32(0.5)], opsets=(11, 21)),
    Case("Clip", [X, Input(()), np.float32(0.25)], opsets=(11, 21)),
    Case("Clip", [X, np.float32(0.5), np.float32(-0.5)], opsets=(13, 21)),
    Case("PRelu", [X, _f(3, 1, 1)]),
    Case("PRelu", [X, _f(1)]),
    Case("PRelu", [X, _f(4)]),
    Case("PRelu", [X, Input((3, 1, 1))]),
    Case("PRelu", [X, _f(1, 3, 5, 4)]),
    Case("LeakyRelu", [X], {"alpha": 0.3}, exact=False),
    Case("HardSigmoid", [X], {"alpha": 0.5, "beta": 0.25}, exact=False),
    Case("Where", [BOOL, Input((3, 4)), np.asarray(-1, np.float32)]),
    Case("Where", [BOOL, np.asarray([1], np.float32), np.asarray([-1], np.float32)]),
    Case("Cast", [X], {"to": 7}),
    Case("Cast", [X], {"to": 9}),
    Case("Cast", [BOOL], {"to": 1}),
    Case("Cast", [INT], {"to": 1}),
    Case("Cast", [X], {"to": 1}),
    Case("CastLike", [INT, _f(1)], opsets=(15, 21)),
    Case("Erf", [X], opsets=(9, 21), exact=False),
    Case("Softplus", [X], exact=False),
    Case("Gelu", [X], opsets=(20, 21), exact=False),
    Case("Celu", [X], opsets=(12, 21), exact=False),
    Case("Celu", [X], {"alpha": 0.5}, (12, 21), exact=False),
    Case("Elu", [X], exact=False),
]
MATMUL = [
    Case("MatMul", [Input((4,)), np.arange(12, dtype=np.float32).reshape(4, 3)], exact=False),
    Case("MatMul", [np.arange(12, dtype=np.float32).reshape(3, 4), Input((4,))], exact=False),
    Case("MatMul", [Input((2, 3, 4)), np.arange(4, dtype=np.float32)], exact=False),
    Case("MatMul", [Input((4,)), Input((4,))], exact=False),
    Case("MatMul", [Input((4,)), Input((2, 4, 3))], exact=False),
    Case("MatMul", [np.arange(12, dtype=np.float32).reshape(3, 4), Input((2, 4, 5))], exact=False),
    Case("MatMul", [Input((2, 5)), _f(5, 3)], exact=False),
    Case("MatMul", [Input((2, 3, 4, 5)), Input((2, 3, 5, 2))], exact=False),
    Case("MatMul", [Input((4, 5)), Input((5,))], exact=False),
    Case("MatMul", [Input((2, 4, 5)), _f(5, 2)], exact=False),
    Case("Gemm", [Input((2, 5)), _f(5, 3), _f(3)], exact=False),
    Case("Gemm", [Input((2, 5)), _f(3, 5), _f(1, 3)], {"transB": 1}, exact=False),
    Case("Gemm", [Input((5, 2)), _f(3, 5), _f(2, 3)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, exact=False),
    Case("Gemm", [Input((2, 5)), Input((3, 5)), Input((3,))], {"transB": 1, "beta": 0.5}, exact=False),
    Case("Gemm", [Input((2, 5)), _f(5, 3), _f(3)], {"beta": 0.0}, exact=False),
    Case("Gemm", [Input((2, 5)), _f(5, 3)], opsets=(11, 21), exact=False),
]
REDUCE = [
    *(
        Case(op, [X], {"axes": [1, -1], "keepdims": 0}, (11, 17 if op != "ReduceSum" else 12), exact=False)
        for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")
    ),
    *(
        Case(op, [X, _i(2, 3)], {}, (18 if op != "ReduceSum" else 13, 21), exact=False)
        for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2")
    ),
    Case("ReduceMean", [X], {}, (9, 21), exact=False),
    Case("ReduceSum", [X], {"noop_with_empty_axes": 1}, (13, 21)),
    Case("GlobalAveragePool", [X], exact=False),
    Case("GlobalMaxPool", [X]),
    Case("GlobalAveragePool", [Input((2, 3, 7))], exact=False),
    Case("ArgMax", [X], {"axis": 1, "keepdims": 0}, (11, 21)),
    Case("ArgMin", [X], {"axis": -1}, (11, 21)),
    Case("ArgMax", [Input((2, 10))], {"axis": 1}),
    Case("Softmax", [X], {}, (9, 12), exact=False),
    Case("Softmax", [X], {"axis": 2}, (9, 12), exact=False),
    Case("Softmax", [Input((2, 10))], {}, (9, 21), exact=False),
    Case("Softmax", [X], {"axis": 1}, (13, 21), exact=False),
    Case("LogSoftmax", [Input((2, 10))], {}, (13, 21), exact=False),
]
SPATIAL = [
    Case("Conv", [P, _f(6, 4, 3, 3)], exact=False),
    Case("Conv", [P, _f(6, 4, 3, 3), _f(6)], {"pads": [1, 0, 2, 3], "strides": [2, 1]}, exact=False),
    Case("Conv", [P, _f(6, 4, 3, 2)], {"dilations": [2, 3], "pads": [2, 2, 2, 2]}, exact=False),
    Case("Conv", [P, _f(6, 2, 3, 3)], {"group": 2}, exact=False),
    Case("Conv", [P, _f(8, 1, 3, 3)], {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, exact=False),
    Case("Conv", [P, _f(6, 4, 4, 2)], {"auto_pad": "SAME_LOWER", "strides": [3, 2]}, exact=False),
    Case("Conv", [P, _f(2, 4, 2, 2)], {"auto_pad": "VALID"}, exact=False),
    Case("Conv", [Input((2, 4, 9)), _f(6, 4, 3), _f(6)], {"pads": [1, 2], "strides": [2]}, exact=False),
    Case("Conv", [P, Input((2, 4, 3, 3)), Input((2,))], exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 3, 3), _f(3)], {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 2, 2)], {"strides": [2, 2]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 4, 4), _f(3)], {"strides": [2, 2], "pads": [1, 1, 1, 1]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 6, 5)], {"strides": [3, 2], "pads": [1, 0, 2, 1]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 4, 3)], {"strides": [2, 1], "pads": [3, 1, 3, 1]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 1, 1)], {"strides": [2, 2], "output_padding": [1, 1]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 2, 3, 3)], {"group": 2, "pads": [0, 1, 2, 0]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 3, 3)], {"strides": [2, 3], "auto_pad": "SAME_UPPER"}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 3, 3)], {"strides": [2, 2], "output_shape": [15, 18]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 3, 3)], {"strides": [2, 2], "output_shape": [16, 19]}, exact=False),
    Case("ConvTranspose", [P, _f(4, 3, 3, 3)], {"auto_pad": "VALID"}, exact=False),
    Case("ConvTranspose", [Input((2, 4, 9)), _f(4, 2, 3)], {"strides": [2], "dilations": [2]}, exact=False),
    Case("MaxPool", [P], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("MaxPool", [P], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    Case("MaxPool", [P], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, (10, 21)),
    Case("MaxPool", [P], {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]}, (10, 21)),
    Case("MaxPool", [P], {"kernel_shape": [2, 2], "dilations": [2, 3]}, (10, 21)),
    Case("MaxPool", [P], {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("MaxPool", [Input((2, 3, 9))], {"kernel_shape": [3], "strides": [2]}),
    Case("AveragePool", [P], {"kernel_shape": [2, 3], "strides": [2, 2]}, exact=False),
    Case("AveragePool", [P], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, exact=False),
    Case("AveragePool", [P], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, exact=False),
    Case("AveragePool", [P], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, (10, 21), exact=False),
    Case(
        "AveragePool",
        [P],
        {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1], "count_include_pad": 1},
        (19, 21),
        exact=False,
    ),
    Case("AveragePool", [Input((2, 3, 9))], {"kernel_shape": [3], "strides": [2]}, exact=False),
    Case("BatchNormalization", [P, _f(4), _f(4), _f(4), np.abs(_f(4))], {"epsilon": 1e-3}),
    Case("BatchNormalization", [Input((2, 4)), _f(4), _f(4), _f(4), np.abs(_f(4))]),
    Case("InstanceNormalization", [P, _f(4), _f(4)], exact=False),
    Case("LRN", [P], {"size": 3}, exact=False),
    Case("Pad", [P], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 1.0}, (9, 10)),
    Case("Pad", [P], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "mode": "edge"}, (9, 10)),
    Case("Pad", [P, _i(0, 0, 1, 2, 0, 0, 3, 0), np.asarray(-1, np.float32)], {}, (11, 21)),
    Case("Pad", [P, _i(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "reflect"}, (11, 21)),
    Case("Pad", [P, _i(0, 1, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}, (11, 21)),
    Case("Pad", [P, _i(0, 0, -1, 2, 0, 0, 1, -2)], {}, (11, 21)),
    Case("Pad", [P, _i(1, 2), None, _i(2)], {}, (18, 21)),
    Case("Pad", [P, _i(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "wrap"}, (19, 21)),
]
RESIZE = [
    Case("Upsample", [P, np.asarray([1, 1, 2, 3], np.float32)], {}, (9, 9)),
    Case("Resize", [P, np.asarray([1, 1, 2, 3], np.float32)], {}, (10, 10)),
    *(
        Case(
            "Resize",
            [P, np.asarray([], np.float32), np.asarray([1, 1, 2, 2], np.float32)],
            {"coordinate_transformation_mode": c, "nearest_mode": r},
            (11, 21),
        )
        for c in ("asymmetric", "half_pixel", "align_corners")
        for r in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    ),
    Case("Resize", [P, None, np.asarray([1, 1, 2, 2], np.float32)], {"mode": "linear"}, (13, 21), exact=False),
    Case(
        "Resize",
        [P, None, np.asarray([1, 1, 2, 2], np.float32)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        (13, 21),
        exact=False,
    ),
    Case("Resize", [P, None, None, _i(1, 4, 14, 18)], {"mode": "cubic"}, (13, 21), exact=False),
    Case("Resize", [P, None, None, _i(1, 4, 3, 4)], {}, (13, 21)),
    Case("DepthToSpace", [Input((2, 8, 3, 4))], {"blocksize": 2}),
    Case("DepthToSpace", [Input((2, 8, 3, 4))], {"blocksize": 2, "mode": "CRD"}, (11, 21)),
    Case("SpaceToDepth", [Input((2, 2, 4, 6))], {"blocksize": 2}),
]
MOVEMENT = [
    Case("Transpose", [X]),
    Case("Transpose", [X], {"perm": [0, 2, 3, 1]}),
    Case("Reshape", [X, _i(0, -1)]),
    Case("Reshape", [X, _i(-1, 2, 0)]),
    Case("Reshape", [X, _i(120)]),
    Case("Flatten", [X]),
    Case("Flatten", [X], {"axis": 0}),
    Case("Flatten", [X], {"axis": -1}, (11, 21)),
    Case("Identity", [X]),
    Case("Dropout", [X]),
    Case("Squeeze", [Input((1, 3, 1, 2))], {"axes": [0, 2]}, (9, 12)),
    Case("Squeeze", [Input((1, 3, 1, 2)), _i(-2)], {}, (13, 21)),
    Case("Squeeze", [Input((1, 3, 1, 2))], {}),
    Case("Unsqueeze", [X], {"axes": [0, 3]}, (9, 12)),
    Case("Unsqueeze", [X, _i(-1, 1)], {}, (13, 21)),
    Case("Concat", [X, X, _f(2, 1, 5, 4)], {"axis": 1}),
    Case("Concat", [X, X], {"axis": -1}, (11, 21)),
    Case("Concat", [X], {"axis": 0}),
    Case("Slice", [X], {"starts": [1, 0], "ends": [LARGEST, -1], "axes": [1, 2]}, (9, 9)),
    Case("Slice", [X, _i(0, 1), _i(2, LARGEST), _i(1, 2), _i(1, 2)], {}, (10, 21)),
    Case("Slice", [X, _i(-1, 3), _i(-LARGEST, 0), _i(1, -1), _i(-1, -2)], {}, (10, 21)),
    Case("Slice", [X, _i(0, 1), _i(1, 100)], {}, (10, 21)),
    Case("Split", [X], {"axis": 2, "split": [1, 4]}, (9, 12), outputs=2),
    Case("Split", [X, _i(2, 1)], {"axis": 1}, (13, 21), outputs=2),
    Case("Split", [X], {"axis": 3}, (9, 17), outputs=2),
    Case("Split", [X], {"axis": 2, "num_outputs": 2}, (18, 21), outputs=2),
    Case("Expand", [Input((3, 1)), _i(2, 1, 4)]),
    Case("Expand", [Input((3, 4)), _i(1)]),
    Case("Tile", [Input((2, 3)), _i(2, 3)]),
    Case("Gather", [X, np.asarray(1)], {"axis": 2}),
    Case("Gather", [X, _i(2, 0, 1)], {"axis": 1}),
    Case("Gather", [X, _i(0, 2)], {"axis": 1}),
    Case("Gather", [X, _i(-1)], {"axis": -1}, (11, 21)),
    Case("Gather", [X, np.asarray([[0, 1], [1, 0]])], {"axis": 3}),
    Case("Gather", [X, _i(1, 1)], {"axis": 0}),
    Case("Gather", [X, np.asarray([2], np.int32)], {"axis": 1}),
    Case("GatherND", [X, np.asarray([[0, 1], [-1, 0]])], {}, (11, 21)),
    Case("GatherND", [X, np.asarray([[[0, 2, 1, 3], [1, 0, 4, -2]]])], {}, (11, 21)),
    Case("GatherND", [X, np.asarray([[[1]], [[0]]])], {"batch_dims": 1}, (12, 21)),
    Case("GatherND", [X, np.arange(12).reshape(2, 3, 2, 1) % 5], {"batch_dims": 2}, (12, 21)),
    Case("GatherElements", [X, np.asarray([[[[0, 3], [-1, 2]]]])], {"axis": 3}, (11, 21)),
    Case("GatherElements", [Input((3, 2)), np.asarray([[2, 0], [-3, 1]])], {}, (11, 21)),
    Case("ScatterElements", [X, np.full((2, 1, 5, 4), 1), Input((2, 1, 5, 4))], {"axis": 1}, (11, 18)),
    Case("ScatterElements", [Input((6,)), _i(5, 0, -3), Input((3,))], {}, (11, 18)),
    Case("ScatterND", [Input((6, 2)), np.asarray([[4], [-6]]), Input((2, 2))], {}, (11, 18)),
    Case("ScatterND", [Input((1, 3, 2)), np.asarray([[[0, 2, 0], [0, 2, 1]]]), Input((1, 2))], {}, (11, 18)),
    Case("TopK", [X, _i(2)], {"axis": -1}, (11, 17), outputs=2),
]
QUANTIZE = [
    Case("QuantizeLinear", [X, np.float32(0.1), np.uint8(128)], {}, (10, 21)),
    Case("QuantizeLinear", [X, np.float32(0.25), np.int8(0)], {}, (10, 21)),
    Case("QuantizeLinear", [X, np.float32(0.25)], {}, (10, 21)),
    Case("QuantizeLinear", [X, np.abs(_f(3)) + 0.1, np.asarray([0, 5, 9], np.uint8)], {"axis": 1}, (13, 21)),
    Case("DequantizeLinear", [Input((2, 3, 4), "uint8"), np.float32(0.1), np.uint8(3)], {}, (10, 21)),
    Case("DequantizeLinear", [Input((2, 3, 4), "int8"), np.abs(_f(3))], {"axis": 1}, (13, 21)),
]
CASES = {
    "elementwise": ELEMENTWISE,
    "matmul": MATMUL,
    "reduce": REDUCE,
    "spatial": SPATIAL,
    "resize": RESIZE,
    "movement": MOVEMENT,
    "quantize": QUANTIZE,
}

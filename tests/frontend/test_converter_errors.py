"""Forms of known operators that are not supported, or do not fit: each a readable error that names the node."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from bnncc.errors import ModelError, ModelFormatError, ModelShapeError, ModelValueError, UnsupportedOperator
from bnncc.frontend import import_onnx

from .models import make_model, node, value
from .operator_cases import Case, Input, model_of

F = np.float32
X = Input((1, 4, 6, 6))
W = np.ones((2, 4, 3, 3), F)
ONES = np.ones(4, F)


def _ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


UNSUPPORTED = [
    (Case("Div", [Input((3,), "int32"), np.asarray([2], np.int32)]), "division of int32 at run time"),
    (Case("BatchNormalization", [X, ONES, ONES, ONES, ONES], {"training_mode": 1}, (15, 21), outputs=3), "training_mode=1"),
    (Case("BatchNormalization", [Input((2, 4)), Input((4,)), ONES, ONES, ONES]), "scale .input 1. depends on the model's input"),
    (
        Case("QuantizeLinear", [Input((2, 4)), np.ones((2, 2), F), np.zeros((2, 2), np.int8)], {"axis": 1, "block_size": 2}, (21, 21)),
        "block_size",
    ),
    (Case("ArgMax", [X], {"select_last_index": 1}, (12, 21)), "select_last_index=1"),
    (Case("Resize", [X, None, np.asarray([2, 2], F)], {"axes": [2, 3]}, (18, 21)), "axes, antialias and keep_aspect_ratio_policy"),
    (Case("Resize", [X, None, np.asarray([1, 1, 1.3, 1.3], F)], {}, (13, 21)), r"scales \[1.0, 1.0, 1.29.* do not give whole sizes"),
    (Case("Resize", [X, None, np.asarray([1, 2, 2, 2], F)], {}, (13, 21)), "only the last two axes of four can change"),
    (Case("Resize", [Input((1, 4, 6)), None, np.asarray([1, 1, 2], F)], {}, (13, 21)), "only the last two axes of four can change"),
    (
        Case(
            "Resize",
            [X, _roi := np.asarray([0, 0, 0, 0, 1, 1, 1, 1], F), np.asarray([1, 1, 2, 2], F)],
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            (13, 21),
        ),
        "coordinates 'tf_crop_and_resize'",
    ),
    (Case("Conv", [Input((1, 4, 6, 6, 6)), np.ones((2, 4, 3, 3, 3), F)]), "3 spatial axes"),
    (Case("ConvTranspose", [Input((1, 4, 6, 6, 6)), np.ones((4, 2, 3, 3, 3), F)]), "3 spatial axes; 1 and 2 are supported"),
    (Case("MaxPool", [X], {"kernel_shape": [2, 2]}, outputs=2), "second output, the indices"),
    (Case("MaxPool", [X], {"kernel_shape": [2, 2], "auto_pad": "SAME"}), "auto_pad is 'SAME'"),
    (Case("Pad", [X, _ints(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "symmetric"}, (13, 13)), "mode is 'symmetric'"),
    # onnxruntime drops a last window that starts in the padding, onnx's shape inference counts it.
    (
        Case("MaxPool", [X], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1}, (13, 21)),
        "should make 'o0_0' as float32.* this form of MaxPool",
    ),
    (Case("Pad", [X, _ints(0, 0, 9, 0, 0, 0, 0, 0)], {"mode": "reflect"}, (13, 21)), "repeats the input"),
    (Case("Pad", [X, _ints(0, 0, 1, 1, 0, 0, 1, 1), Input(())], {}, (13, 21)), "fill value .input 2. depends on the model's input"),
    (Case("Det", [Input((3, 3))], {}, (13, 13)), "operator Det is not supported. Supported are Abs, Add,"),
    (Case("ScatterND", [Input((4, 4)), np.asarray([[0, 1], [2, 3]]), Input((2,))], {}, (13, 13)), "no whole slices"),
    (Case("ScatterND", [Input((4, 4)), np.asarray([[1]]), Input((1, 4))], {"reduction": "add"}, (16, 18)), "reduction is 'add'"),
    (Case("GatherElements", [X, Input((1, 4, 6, 6), "int64")], {}, (13, 13)), "indices .input 1. depends on the model's input"),
    (
        Case("OneHot", [Input((3,), "int64"), np.asarray(4), np.asarray([0, 1], F)], {}, (13, 13)),
        r"should make 'o0_0' as float32\[3, 4\], but converts to float64",
    ),
    (
        Case("Attention", [Input((1, 2, 4, 4))] * 3, {}, (23, 23)),
        "TVM's converter for Attention, which stands in for one of ours, does not take it",
    ),
    (Case("Cast", [X], {"to": TensorProto.BFLOAT16}, (13, 21)), "element type bfloat16; at run time float32"),
]
MISSHAPEN = [
    (Case("Reshape", [X, _ints(1, 100)]), r"\[1, 4, 6, 6\] cannot be given the shape \[1, 100\]"),
    (Case("Squeeze", [X, _ints(1)], {}, (13, 21)), "node0"),
    (Case("Split", [X, _ints(1, 2)], {"axis": 1}, (13, 21), outputs=2), "node0"),
    (Case("Gather", [X, _ints(4)], {"axis": 1}), "indices run from 4 to 4, outside of axis 1"),
    (Case("GatherND", [X, np.asarray([[0, -5]])], {}, (13, 21)), "indices run from -5 to -5, outside of axis 1"),
    (Case("Resize", [X, None, Input((4,))], {}, (13, 13)), "it depends on the data. Only static shapes are supported"),
    (Case("Conv", [X, np.ones((2, 3, 3, 3), F)]), "input has 4 channels, its weight the shape"),
    (Case("Conv", [X, np.ones((3, 2, 3, 3), F)], {"group": 2}), "2 groups; these do not fit"),
    (Case("Conv", [X, W, np.ones(3, F)]), "Conv node 'node0' .*cannot be converted with the inputs 'i0_0' float32"),
    (Case("MatMul", [Input((2, 3)), np.ones((4, 5), F)]), "node0"),
    (Case("Add", [Input((2, 3)), np.ones((4, 5), F)]), "node0"),
    (Case("Concat", [Input((2, 3)), np.ones((3, 3), F)], {"axis": 1}), "node0"),
    (Case("BatchNormalization", [X, np.ones(3, F), np.ones(3, F), np.ones(3, F), np.ones(3, F)]), "node0"),
]
MALFORMED = [
    (Case("Add", [X]), "Add node 'node0' .*breaks the rules of its operator"),
    (Case("Relu", [X, X]), "breaks the rules of its operator"),
    (Case("MaxPool", [X]), "breaks the rules of its operator.*kernel_shape"),
    (Case("Conv", [X, W], {"group": "two"}), "breaks the rules of its operator.*group"),
    (Case("Relu", [X], {"colour": 3}), "breaks the rules of its operator.*colour"),
]


def test_an_input_that_is_left_out_but_needed_is_refused() -> None:
    with pytest.raises(ModelError, match="node 'sum'.* input 1 is missing|node 'sum'.*breaks"):
        import_onnx(make_model([node("Add", ["x", ""], ["y"], "sum")]))


def _refuses(case: Case, complaint: str, error: type[ModelError]) -> None:
    for opset in sorted({*case.opsets}):
        with pytest.raises(error, match=complaint) as caught:
            import_onnx(model_of([case], opset))
        assert "\n" not in str(caught.value), "an error is one paragraph"


@pytest.mark.parametrize("case, complaint", UNSUPPORTED, ids=lambda v: v.name if isinstance(v, Case) else "")
def test_an_unsupported_form_is_refused(case: Case, complaint: str) -> None:
    _refuses(case, complaint, UnsupportedOperator)


@pytest.mark.parametrize("case, complaint", MISSHAPEN, ids=lambda v: v.name if isinstance(v, Case) else "")
def test_shapes_that_do_not_fit_are_refused(case: Case, complaint: str) -> None:
    _refuses(case, complaint, ModelShapeError)


@pytest.mark.parametrize("case, complaint", MALFORMED, ids=lambda v: v.name if isinstance(v, Case) else "")
def test_a_node_that_breaks_its_operators_rules_is_refused(case: Case, complaint: str) -> None:
    _refuses(case, complaint, ModelFormatError)


@pytest.mark.parametrize(
    "attributes, pads",
    [
        ({"strides": [1]}, None),
        ({"strides": [0, 1]}, None),
        ({"dilations": [1, 1, 1]}, None),
        ({}, [1, 1, 1]),
        ({}, [-1, 0, 0, 0]),
        ({"strides": [2**40, 1]}, [2**40, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
def test_windows_that_make_no_sense_are_refused(op: str, attributes: dict, pads: list[int] | None) -> None:
    given = {**attributes, **({"pads": pads} if pads else {}), **({} if op == "Conv" else {"kernel_shape": [3, 3]})}
    with pytest.raises(ModelError, match="node0|elements"):
        import_onnx(model_of([Case(op, [X, W] if op == "Conv" else [X], given)], 17))


def test_an_operator_that_reads_its_parameters_from_the_input_is_refused() -> None:
    inputs = [value("x", (2, 6)), value("s", (2,), TensorProto.INT64)]
    with pytest.raises((ModelShapeError, UnsupportedOperator), match="'y'"):
        import_onnx(make_model([node("Reshape", ["x", "s"], ["y"], "reshape")], inputs))


def test_a_batch_norm_with_a_negative_variance_is_refused() -> None:
    with pytest.raises(ModelValueError, match="scale and offset of BatchNormalization node 'node0'.* holds NaN"):
        import_onnx(model_of([Case("BatchNormalization", [X, ONES, ONES, ONES, np.asarray([1, 1, -1, 1], F)])], 17))


def test_a_batch_norm_of_an_old_form_is_refused() -> None:
    model = model_of([Case("BatchNormalization", [Input((1, 4, 2)), *[np.ones((4, 2), F)] * 4], {"spatial": 0})], 8)
    with pytest.raises(ModelError, match="spatial"):
        import_onnx(model)


@pytest.mark.parametrize("attributes", [{}, {"value_int": 1, "value_float": 2.0}])
@pytest.mark.parametrize("quantizer", [True, False])
def test_a_constant_without_one_value_is_refused(attributes: dict, quantizer: bool) -> None:
    reader = node("BipolarQuant", ["x", "c"], ["y"], domain="onnx.brevitas") if quantizer else node("Add", ["x", "c"], ["y"])
    with pytest.raises(ModelFormatError, match="Constant node 'odd' .* holds [02] values; a constant has exactly one"):
        import_onnx(make_model([node("Constant", [], ["c"], "odd", **attributes), reader]))

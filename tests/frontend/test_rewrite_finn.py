from __future__ import annotations

import numpy as np
import onnx
import pytest

from bnncc.errors import UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import run_onnx, tensor_differences
from .models import make_model, node
from .quantizers import multi_threshold

F = np.float32
SHAPES = {"NC": (2, 3), "NCHW": (2, 3, 4, 5), "NHWC": (2, 4, 5, 3), "NWC": (2, 4, 3)}


def _run(
    op: str, x: np.ndarray, weights: dict[str, np.ndarray], domain: str = "finn.custom_op.general", opset: int = 17, **attributes: object
) -> np.ndarray:
    imported = import_onnx(make_model([node(op, ["x", *weights], ["y"], "q", domain=domain, **attributes)], x.shape, weights, opset=opset))
    assert tensor_differences(imported, {"x": x}, tolerance=0) == []
    return run_onnx(imported.reference, {"x": x})[0]


def _grid(*shape: int) -> np.ndarray:
    return (np.random.default_rng(1).integers(-12, 13, shape) / 2).astype(F)


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_multi_threshold_counts_the_thresholds_reached(layout: str, channels: int, count: int) -> None:
    x, thresholds = _grid(*SHAPES[layout]), np.sort(_grid(channels, count), 1)
    for scale, bias in ((1.0, 0.0), (2.0, -1.0), (0.3, 0.25)):
        got = _run("MultiThreshold", x, {"t": thresholds}, out_scale=scale, out_bias=bias, out_dtype="UINT4", data_layout=layout)
        assert np.array_equal(got, multi_threshold(x, thresholds, layout.index("C"), scale, bias))


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 18, 21])
@pytest.mark.parametrize("domain", ["finn.custom_op.general", "qonnx.custom_op.general", ""])
@pytest.mark.parametrize("count", [1, 3])
def test_multi_threshold_is_the_same_in_every_opset_and_domain(opset: int, domain: str, count: int) -> None:
    x, thresholds = _grid(2, 3, 4, 5), np.sort(_grid(3, count), 1)
    assert np.array_equal(
        _run("MultiThreshold", x, {"t": thresholds}, domain, opset, out_dtype="BINARY"), multi_threshold(x, thresholds, 1, 1, 0)
    )


@pytest.mark.parametrize("shape, axis", [((2, 3), 1), ((2, 4, 3), 2), ((2, 3, 4, 5), 1)])
def test_without_a_layout_the_channels_are_where_qonnx_puts_them(shape: tuple[int, ...], axis: int) -> None:
    x, thresholds = _grid(*shape), np.sort(_grid(3, 2), 1)
    assert np.array_equal(_run("MultiThreshold", x, {"t": thresholds}, out_dtype="INT2"), multi_threshold(x, thresholds, axis, 1, 0))


def test_many_thresholds_are_one_comparison_with_a_new_last_axis() -> None:
    model = make_model(
        [node("MultiThreshold", ["x", "t"], ["y"], domain="finn.custom_op.general")], (1, 3, 2, 2), {"t": np.sort(_grid(3, 4), 1)}
    )
    reference = import_onnx(model).reference
    assert [n.op_type for n in reference.graph.node] == ["Unsqueeze", "GreaterOrEqual", "Cast", "ReduceSum"]
    shapes = [tuple(t.dims) for t in reference.graph.initializer]
    assert (1, 3, 1, 1, 4) in shapes


@pytest.mark.parametrize("shape", [(4, 70), (2, 4, 70)])
def test_xnor_popcount_matmul_counts_equal_bits(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 2, shape).astype(F), rng.integers(0, 2, (70, 6)).astype(F)
    got = _run("XnorPopcountMatMul", a, {"w": b})
    assert np.array_equal(got, (a[..., :, None] == b).sum(-2))


def test_xnor_popcount_matmul_keeps_its_name_in_the_report() -> None:
    model = make_model(
        [node("XnorPopcountMatMul", ["x", "w"], ["y"], "dense", domain="finn.custom_op.general")], (1, 4), {"w": np.ones((4, 2), F)}
    )
    imported = import_onnx(model)
    assert {(i.name, i.op_type) for i in imported.nodes.values()} == {("dense", "XnorPopcountMatMul")}
    assert [t for t in imported.tensors.values()].count("y") == 1


def test_quant_avg_pool_shifts_the_window_sum() -> None:
    x = np.random.default_rng(3).integers(0, 16, (1, 2, 6, 6)).astype(F)
    got = _run("QuantAvgPool2d", x, {}, stride=2, kernel=2, ibits=4, obits=4, signed=0, data_layout="NCHW")
    sums = x.reshape(1, 2, 3, 2, 3, 2).sum((3, 5))
    assert np.array_equal(got, np.floor(sums / 4))  # 15 * 4 takes 6 bits: two are dropped


def test_a_debug_marker_does_nothing() -> None:
    nodes = [node("DebugMarker", ["x"], ["m"], domain="qonnx.custom_op.general", export_debug_name="a"), node("Relu", ["m"], ["y"])]
    imported = import_onnx(make_model(nodes))
    assert [n.op_type for n in imported.folded.graph.node] == ["Relu"]


@pytest.mark.parametrize(
    "thresholds, attributes, complaint",
    [
        (_grid(2, 4), {}, r"thresholds have shape \[2, 4\], its input \[1, 3, 2, 2\] with the channels on axis 1"),
        (_grid(3), {}, r"thresholds have shape \[3\]"),
        (_grid(3, 1), {"data_layout": "NHWC"}, "channels on axis 3"),
        (_grid(1, 1), {"data_layout": "NDHWC"}, "data_layout is 'NDHWC', its input has rank 4"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(thresholds: np.ndarray, attributes: dict, complaint: str) -> None:
    with pytest.raises(UnsupportedOperator, match=f"MultiThreshold node 'q'.*{complaint}"):
        _run("MultiThreshold", _grid(1, 3, 2, 2), {"t": thresholds}, **attributes)


def test_thresholds_that_depend_on_the_input_are_refused() -> None:
    nodes = [node("Abs", ["x"], ["t"]), node("MultiThreshold", ["x", "t"], ["y"], "q", domain="finn.custom_op.general")]
    with pytest.raises(UnsupportedOperator, match="threshold matrix .input 1. is missing or not constant"):
        import_onnx(make_model(nodes, (3, 3)))


def test_a_pool_in_another_layout_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="data_layout is 'NHWC'"):
        _run("QuantAvgPool2d", _grid(1, 4, 4, 2), {}, stride=2, kernel=2, ibits=4, obits=4, data_layout="NHWC")


def test_an_input_of_unknown_rank_is_refused() -> None:
    # A loop's result has no rank that inference could tell.
    inner = onnx.helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Unsqueeze", ["v", "axis"], ["u"])],
        "body",
        [
            onnx.helper.make_tensor_value_info("i", 7, ()),
            onnx.helper.make_tensor_value_info("c", 9, ()),
            onnx.helper.make_tensor_value_info("v", 1, None),
        ],
        [onnx.helper.make_tensor_value_info("d", 9, ()), onnx.helper.make_tensor_value_info("u", 1, None)],
    )
    nodes = [
        node("Loop", ["n", "", "x"], ["z"], body=inner),
        node("MultiThreshold", ["z", "t"], ["y"], "q", domain="finn.custom_op.general"),
    ]
    weights = {"n": np.asarray(2), "t": _grid(1, 1), "axis": np.asarray([0])}
    with pytest.raises(UnsupportedOperator, match="rank of its input 'z' cannot be told"):
        import_onnx(make_model(nodes, (3,), weights))


def test_dot_products_of_unknown_length_are_refused() -> None:
    nodes = [
        node("NonZero", ["x"], ["n"]),
        node("Cast", ["n"], ["a"], to=1),
        node("Transpose", ["a"], ["b"]),
        node("XnorPopcountMatMul", ["a", "b"], ["y"], "q", domain=""),
    ]
    with pytest.raises(UnsupportedOperator, match="length of its dot products cannot be told"):
        import_onnx(make_model(nodes))

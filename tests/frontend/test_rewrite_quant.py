from __future__ import annotations

import numpy as np
import onnx
import pytest

from bnncc.errors import UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import run_onnx, tensor_differences
from .models import make_model, node
from .quantizers import ROUNDINGS, fake_quantize, quant, trunc

F = np.float32
# A grid of eighths: halves, the levels themselves and zero are all on it.
X = (np.arange(-60, 60).reshape(2, 3, 4, 5) / 8).astype(F)
PER_CHANNEL = np.asarray([0.25, 0.3, 1.7], F).reshape(1, 3, 1, 1)


def _run(op: str, constants: list, domain: str = "qonnx.custom_op.general", opset: int = 17, **attributes: object) -> np.ndarray:
    names = [f"c{i}" for i in range(len(constants))]
    model = make_model(
        [node(op, ["x", *names], ["y"], "q", domain=domain, **attributes)], X.shape, dict(zip(names, constants)), opset=opset
    )
    imported = import_onnx(model)
    assert {o.domain for o in imported.reference.opset_import} == {""}
    assert tensor_differences(imported, {"x": X}, tolerance=0) == []
    return run_onnx(imported.reference, {"x": X})[0]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("bits, signed, narrow", [(2, 1, 0), (2, 1, 1), (3, 0, 0), (4, 0, 1), (8, 1, 0), (1, 0, 0), (2.5, 1, 0)])
def test_quant_rounds_and_clamps_as_defined(rounding: str, bits: float, signed: int, narrow: int) -> None:
    for scale, zero in ((F(1), F(0)), (F(0.3), F(1)), (PER_CHANNEL, F(0))):
        got = _run("Quant", [scale, zero, F(bits)], signed=signed, narrow=narrow, rounding_mode=rounding)
        assert np.array_equal(got, quant(X, scale, zero, bits, signed, narrow, rounding))


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 21])
@pytest.mark.parametrize("rounding", ["ROUND", "HALF_UP"])
def test_quant_is_the_same_in_every_opset(opset: int, rounding: str) -> None:
    got = _run("Quant", [F(0.25), F(0), F(4)], opset=opset, signed=1, narrow=0, rounding_mode=rounding)
    assert np.array_equal(got, quant(X, F(0.25), F(0), 4, 1, 0, rounding))


@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas", ""])
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_quant_is_known_in_every_domain_without_an_import_and_rounds_half_to_even_by_default(op: str, domain: str) -> None:
    got = _run(op, [F(1), F(0), F(3)], domain, signed=1, narrow=0)
    assert np.array_equal(got, np.clip(np.rint(X), -4, 3))


def test_one_signed_bit_is_bipolar_and_zero_is_plus_one() -> None:
    got = _run("Quant", [F(0.5), F(0), F(1)], signed=1, narrow=0)
    assert np.array_equal(got, np.where(X >= 0, F(0.5), F(-0.5)))


@pytest.mark.parametrize("scale", [F(1), F(0.3), PER_CHANNEL])
@pytest.mark.parametrize("opset", [9, 11, 12, 17])
@pytest.mark.parametrize("domain", ["onnx.brevitas", "qonnx.custom_op.general", ""])
def test_bipolar_quant_gives_plus_scale_from_zero_on(scale: np.ndarray, opset: int, domain: str) -> None:
    assert np.array_equal(_run("BipolarQuant", [scale], domain, opset), np.where(X >= 0, scale, -scale))


def test_bipolar_quant_of_weights_is_folded_away() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 7)).astype(F)
    nodes = [node("BipolarQuant", ["w", "s"], ["q"], domain="onnx.brevitas"), node("MatMul", ["x", "q"], ["y"])]
    imported = import_onnx(make_model(nodes, (1, 5), {"w": weight, "s": F(0.5)}))
    assert [n.op_type for n in imported.folded.graph.node] == ["MatMul"]
    folded = onnx.numpy_helper.to_array(imported.folded.graph.initializer[0])
    assert np.array_equal(folded, np.where(weight >= 0, F(0.5), F(-0.5)))


def test_a_bit_width_may_be_computed_from_constants() -> None:
    nodes = [
        node("Add", ["two", "two"], ["bits"]),
        node("Quant", ["x", "one", "zero", "bits"], ["y"], domain="onnx.brevitas", signed=1, narrow=0),
    ]
    imported = import_onnx(make_model(nodes, X.shape, {"two": F(2), "one": F(1), "zero": F(0)}))
    assert np.array_equal(run_onnx(imported.reference, {"x": X})[0], np.clip(np.rint(X), -8, 7))


def test_a_scale_may_depend_on_the_input() -> None:
    nodes = [node("ReduceMax", ["x"], ["s"], keepdims=0), node("Quant", ["x", "s", "zero", "bits"], ["y"], domain="", signed=1, narrow=0)]
    imported = import_onnx(make_model(nodes, X.shape, {"zero": F(0), "bits": F(8)}))
    assert np.array_equal(run_onnx(imported.reference, {"x": X})[0], quant(X, X.max(), F(0), 8, 1, 0, "ROUND"))


def test_the_bindings_of_a_quantizer_name_the_quantizer() -> None:
    model = make_model(
        [node("Quant", ["x", "s", "z", "b"], ["y"], "q", domain="onnx.brevitas", signed=1, narrow=0)],
        X.shape,
        {"s": F(0.5), "z": F(0), "b": F(4)},
    )
    imported = import_onnx(model)
    assert {(i.name, i.op_type, i.domain, i.output) for i in imported.nodes.values()} == {("q", "Quant", "onnx.brevitas", "y")}


@pytest.mark.parametrize("rounding", ["FLOOR", "ROUND", "CEIL"])
@pytest.mark.parametrize("scale, zero", [(F(1), F(0)), (F(0.125), F(3))])
def test_trunc_drops_low_bits(rounding: str, scale: np.float32, zero: np.float32) -> None:
    got = _run("Trunc", [scale, zero, F(8), F(6)], rounding_mode=rounding)
    assert np.array_equal(got, trunc(X, scale, zero, 2, rounding))


def test_trunc_with_an_output_scale_clamps_as_well() -> None:
    got = _run("Trunc", [F(0.125), F(0), F(8), F(0.5), F(3)], signed=1, narrow=0, rounding_mode="FLOOR")
    assert np.array_equal(got, np.floor(np.clip(np.rint(X / F(0.125)) / 4, -4, 3)) * F(0.5))


@pytest.mark.parametrize("levels", [2, 3, 4, 16, 256])
@pytest.mark.parametrize("domain", ["org.openvinotoolkit", ""])
@pytest.mark.parametrize("bounds", [(-2.0, 2.0, -1.0, 1.0), (0.0, 3.0, 0.0, 3.0), (-1.0, 4.0, 2.0, -2.0), (3.0, -3.0, -1.0, 1.0)])
def test_fake_quantize_steps_as_openvino_defines(levels: int, domain: str, bounds: tuple[float, ...]) -> None:
    constants = [F(b) for b in bounds]
    assert np.array_equal(_run("FakeQuantize", constants, domain, levels=levels), fake_quantize(X, *constants, levels))


def test_fake_quantize_of_two_levels_at_one_bound_compares_strictly() -> None:
    bound = np.asarray([0, 1, -2], F).reshape(1, 3, 1, 1)
    got = _run("FakeQuantize", [bound, bound, F(-1), F(1)], "org.openvinotoolkit", levels=2)
    assert np.array_equal(got, np.where(X > bound, F(1), F(-1)))


@pytest.mark.parametrize(
    "op, constants, attributes, complaint",
    [
        ("Quant", [F(1), F(0), F(4)], {"rounding_mode": "STOCHASTIC"}, "rounding_mode is 'STOCHASTIC'; supported are ROUND"),
        ("Quant", [F(1), F(0), F(0)], {}, "bit width is 0"),
        ("Quant", [F(1), F(0), F(40)], {}, "bit width is 40; more than 0 and at most 22"),
        ("Quant", [F(1), F(0), np.asarray([4, 8, 4], F)], {}, "bit width has 3 values"),
        ("Quant", [F(1), F(0)], {}, "takes 4 inputs, this one has 3"),
        ("FakeQuantize", [F(0), F(1), F(0), F(1)], {"levels": 1}, "levels=1; 2 or more"),
        ("FakeQuantize", [F(0), F(1), F(0), F(1)], {}, "levels=0; 2 or more"),
        ("BipolarQuant", [], {}, "takes 2 inputs, this one has 1"),
    ],
)
def test_a_quantizer_that_cannot_be_taken_is_named_with_the_reason(op: str, constants: list, attributes: dict, complaint: str) -> None:
    with pytest.raises(UnsupportedOperator, match=f"{op} node 'q'.*{complaint}"):
        _run(op, constants, **attributes)


def test_a_bit_width_that_depends_on_the_input_is_refused() -> None:
    nodes = [node("ReduceMax", ["x"], ["b"], keepdims=0), node("Quant", ["x", "s", "z", "b"], ["y"], "q", domain="onnx.brevitas")]
    with pytest.raises(UnsupportedOperator, match="node 'q' .*bit width .* not constant"):
        import_onnx(make_model(nodes, X.shape, {"s": F(1), "z": F(0)}))


def test_trunc_with_an_output_scale_scales_the_zero_point_too() -> None:
    got = _run("Trunc", [F(0.125), F(8), F(8), F(0.5), F(4)], signed=1, narrow=0, rounding_mode="FLOOR")
    assert np.array_equal(got, (np.floor(np.clip((np.rint(X / F(0.125)) + 8) / 4, -8, 7)) - 2) * F(0.5))


def test_the_parameters_of_a_quantizer_may_be_constant_nodes() -> None:
    constants = [node("Constant", [], [name], value_float=number) for name, number in (("s", 0.5), ("z", 0.0), ("b", 4.0))]
    imported = import_onnx(make_model([*constants, node("Quant", ["x", "s", "z", "b"], ["y"], domain="", signed=1, narrow=0)], X.shape))
    assert np.array_equal(run_onnx(imported.reference, {"x": X})[0], quant(X, F(0.5), F(0), 4, 1, 0, "ROUND"))

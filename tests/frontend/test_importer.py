"""What import_onnx promises of the module and of the maps back to ONNX."""

from __future__ import annotations

import keyword

import numpy as np
import pytest
from onnx import TensorProto
from tvm import relax
from tvm.ir import GenericConst, Op

from bnncc.frontend import ImportedModel, NodeInfo, TensorSpec, import_onnx

from .comparing import random_feeds, run_onnx, run_tvm, tensor_differences
from .models import make_model, node, value

F = np.float32
CONV = {"w": np.ones((4, 3, 3, 3), F), "b": np.arange(4, dtype=F), **{name: np.ones(4, F) for name in ("s", "o", "m", "v")}}


def _network() -> ImportedModel:
    nodes = [
        node("Conv", ["x", "w", "b"], ["/conv/out:0"], "conv"),
        node("BatchNormalization", ["/conv/out:0", "s", "o", "m", "v"], ["1"], "bn"),
        node("Sign", ["1"], ["for"], "sign"),
        node("Split", ["for"], ["left", "right"], "split", axis=1),
        node("Concat", ["right", "left"], ["R"], "concat", axis=1),
        node("GlobalAveragePool", ["R"], ["y"], "pool"),
    ]
    return import_onnx(make_model(nodes, (1, 3, 6, 6), CONV, ("y", "1"), opset=13))


def test_the_module_is_one_straight_dataflow_block_of_single_operator_calls() -> None:
    function = _network().mod["main"]
    (block,) = function.body.blocks
    assert isinstance(block, relax.DataflowBlock)
    for binding in block.bindings:
        assert isinstance(binding.value, relax.Call) and isinstance(binding.value.op, Op)
        for argument in binding.value.args:
            assert not isinstance(argument, relax.Call)
    assert relax.analysis.check_well_formed(_network().mod)


def test_parameters_are_the_inputs_and_weights_are_constants() -> None:
    imported = _network()
    assert [p.name for p in imported.mod["main"].params] == ["x"]
    convolution = imported.mod["main"].body.blocks[0].bindings[0].value
    assert isinstance(convolution.args[1], GenericConst)


def test_the_interface_has_onnx_names_static_shapes_and_numpy_types() -> None:
    imported = _network()
    assert imported.inputs == (TensorSpec("x", (1, 3, 6, 6), "float32"),)
    assert imported.outputs == (TensorSpec("y", (1, 4, 1, 1), "float32"), TensorSpec("1", (1, 4, 4, 4), "float32"))


def test_variable_names_are_unique_identifiers() -> None:
    imported = _network()
    names = [b.var.name for b in imported.mod["main"].body.blocks[0].bindings] + [p.name for p in imported.mod["main"].params]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and not keyword.iskeyword(name) and name not in ("R", "T", "I") for name in names)


def test_only_the_last_binding_of_a_node_holds_its_tensor() -> None:
    imported = _network()
    assert sorted(imported.tensors.values()) == sorted(["x", "/conv/out:0", "1", "for", "left", "right", "R", "y"])
    by_node = {}
    for binding in imported.mod["main"].body.blocks[0].bindings:
        by_node.setdefault(imported.nodes[binding.var.name].name, []).append(binding.var.name in imported.tensors)
    assert by_node["conv"] == [False, True] and by_node["bn"] == [False, True] and by_node["split"] == [True, True]


def test_every_binding_knows_its_node() -> None:
    imported = _network()
    variables = [b.var.name for b in imported.mod["main"].body.blocks[0].bindings]
    assert set(imported.nodes) == set(variables)
    assert imported.nodes[variables[0]] == NodeInfo("conv", "Conv", "", ("x", "w", "b"), "/conv/out:0")


def test_variables_hold_what_onnxruntime_computes_for_their_tensors() -> None:
    imported = _network()
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_names_that_clash_once_spelled_as_identifiers_are_told_apart() -> None:
    nodes = [node("Neg", ["a.b"], ["a/b"]), node("Abs", ["a/b"], ["a_b"]), node("Sign", ["a_b"], ["_"]), node("Relu", ["_"], ["été"])]
    imported = import_onnx(make_model(nodes, [value("a.b", (1, 4))], outputs=("été",)))
    assert len(imported.tensors) == 5 and sorted(imported.tensors.values()) == sorted(["a.b", "a/b", "a_b", "_", "été"])
    assert all(name.isascii() and name.isidentifier() for name in imported.tensors)
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_the_module_prints_and_parses_back() -> None:
    import tvm
    from tvm.script import from_source

    imported = import_onnx(make_model([node("Neg", ["1"], ["R"]), node("Relu", ["R"], ["for"])], [value("1", (1, 4))], outputs=("for",)))
    tvm.ir.assert_structural_equal(from_source(imported.mod.script()), imported.mod)


def test_several_inputs_keep_their_order_and_types() -> None:
    inputs = [value("mask", (1, 4), TensorProto.BOOL), value("b", (1, 4)), value("a", (1, 4))]
    imported = import_onnx(make_model([node("Where", ["mask", "a", "b"], ["y"])], inputs))
    assert [(spec.name, spec.dtype) for spec in imported.inputs] == [("mask", "bool"), ("b", "float32"), ("a", "float32")]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_pixels_may_come_as_bytes() -> None:
    nodes = [node("Cast", ["x"], ["f"], to=1), node("Mul", ["f", "k"], ["y"])]
    imported = import_onnx(make_model(nodes, [value("x", (1, 3, 2, 2), TensorProto.UINT8)], {"k": F(1 / 255)}))
    assert imported.inputs[0].dtype == "uint8"
    assert tensor_differences(imported, random_feeds(imported), tolerance=0) == []


def test_an_input_that_nothing_reads_stays_a_parameter() -> None:
    imported = import_onnx(make_model([node("Relu", ["x"], ["y"])], [value("x", (1, 4)), value("unused", (2,))]))
    assert [spec.name for spec in imported.inputs] == ["x", "unused"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_an_input_that_is_an_output_is_handed_through() -> None:
    imported = import_onnx(make_model([node("Relu", ["x"], ["y"])], outputs=("y", "x")))
    assert [spec.name for spec in imported.outputs] == ["y", "x"]
    assert relax.analysis.check_well_formed(imported.mod)


def test_a_weight_that_is_an_output_is_given() -> None:
    imported = import_onnx(make_model([node("Add", ["x", "w"], ["y"])], weights={"w": np.arange(4, dtype=F)}, outputs=("w", "y")))
    assert imported.outputs[0] == TensorSpec("w", (4,), "float32")


def test_large_integer_constants_keep_all_their_bits() -> None:
    imported = import_onnx(
        make_model([node("Add", ["x", "w"], ["y"])], [value("x", (1,), TensorProto.INT64)], {"w": np.asarray([2**53 + 1])})
    )
    assert tensor_differences(imported, {"x": np.asarray([0])}, tolerance=0) == []
    (binding,) = imported.mod["main"].body.blocks[0].bindings
    assert binding.value.args[1].value.numpy().tolist() == [2**53 + 1]


@pytest.mark.parametrize("opset", [9, 14, 15, 21])
def test_batch_norm_rounds_as_onnxruntime_does(opset: int) -> None:
    rng, channels = np.random.default_rng(opset), 257
    weights = {
        "s": rng.standard_normal(channels) * 10.0 ** rng.uniform(-8, 2, channels),
        "o": rng.standard_normal(channels),
        "m": rng.standard_normal(channels) * 100,
        "v": 10.0 ** rng.uniform(-12, 4, channels),
    }
    weights["s"][3] = weights["v"][5] = 0
    bn = node("BatchNormalization", ["x", "s", "o", "m", "v"], ["y"], epsilon=1e-4)
    imported = import_onnx(make_model([bn], (1, channels, 9, 7), {name: array.astype(F) for name, array in weights.items()}, opset=opset))
    feeds = {"x": (rng.standard_normal((1, channels, 9, 7)) * 10.0 ** rng.uniform(-3, 3, (1, channels, 1, 1))).astype(F)}
    multiply, add = (b.value for b in imported.mod["main"].body.blocks[0].bindings)
    assert (multiply.op.name, add.op.name) == ("relax.multiply", "relax.add")
    s, b = multiply.args[1].value.numpy(), add.args[1].value.numpy()
    assert s.shape == b.shape == (1, channels, 1, 1) and s.dtype == b.dtype == F
    assert np.array_equal(feeds["x"] * s + b, run_onnx(imported.reference, feeds)[0])


def test_indices_given_at_run_time_pick_entries() -> None:
    inputs = [value("x", (2, 5)), value("i", (3,), TensorProto.INT64)]
    imported = import_onnx(make_model([node("Gather", ["x", "i"], ["y"], axis=1)], inputs))
    feeds = {"x": np.arange(10, dtype=F).reshape(2, 5), "i": np.asarray([4, -1, 0])}
    assert np.array_equal(run_tvm(imported, feeds)[0], feeds["x"][:, [4, 4, 0]])


def test_of_several_outputs_only_those_with_a_name_are_bound() -> None:
    imported = import_onnx(make_model([node("MaxPool", ["x"], ["y", ""], kernel_shape=[2, 2])], (1, 1, 4, 4)))
    assert tensor_differences(imported, random_feeds(imported)) == []
    assert sorted(imported.tensors.values()) == ["x", "y"]

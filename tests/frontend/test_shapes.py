from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from bnncc.errors import ModelFormatError, ModelShapeError, UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import random_feeds, tensor_differences
from .models import make_model, node, value

W = {"w": np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)}
CONV = [node("Conv", ["x", "w"], ["y"])]


def _flat(target: list[int], shape: object = (1, 2, 3)) -> object:
    """A model that flattens with a Reshape, as exports with a fixed batch do, before a matrix product."""
    weights = {"t": np.asarray(target, np.int64), "w": np.ones((6, 5), np.float32)}
    return make_model([node("Relu", ["x"], ["r"]), node("Reshape", ["r", "t"], ["f"]), node("MatMul", ["f", "w"], ["y"])], shape, weights)


def test_an_open_batch_becomes_1_with_a_warning() -> None:
    imported = import_onnx(make_model(CONV, ("N", 3, 8, 8), W))
    assert imported.inputs[0].shape == (1, 3, 8, 8)
    assert imported.outputs[0].shape == (1, 8, 6, 6)
    assert "batch size is set to 1" in imported.warnings[0]


def test_an_open_batch_can_be_chosen() -> None:
    imported = import_onnx(make_model(CONV, ("N", 3, 8, 8), W), {"x": (4, 3, 8, 8)})
    assert imported.outputs[0].shape == (4, 8, 6, 6)
    assert imported.warnings == []
    assert tensor_differences(imported, random_feeds(imported)) == []


@pytest.mark.parametrize("open_size", ["H", None, -1])
def test_open_sizes_must_be_given_and_the_error_says_how(open_size: object) -> None:
    with pytest.raises(ModelShapeError, match="--shape x=1,3,D2,8, a number in place of each D"):
        import_onnx(make_model(CONV, ("N", 3, open_size, 8), W))


def test_open_sizes_can_be_given() -> None:
    assert import_onnx(make_model(CONV, ("N", 3, "H", "W"), W), {"x": (1, 3, 10, 12)}).outputs[0].shape == (1, 8, 8, 10)


def test_a_batch_of_minus_1_is_open() -> None:
    assert import_onnx(make_model(CONV, (-1, 3, 8, 8), W)).inputs[0].shape == (1, 3, 8, 8)


def test_an_unknown_input_is_refused_and_the_known_ones_listed() -> None:
    inputs = [value("left", (1, 4)), value("right", (1, 4))]
    with pytest.raises(ModelShapeError, match="input 'x', but the model's inputs are 'left', 'right'"):
        import_onnx(make_model([node("Add", ["left", "right"], ["y"])], inputs), {"x": (1, 4)})


def test_a_weight_is_no_input_to_give_a_shape_for() -> None:
    model = make_model([node("Add", ["x", "w"], ["y"])], [value("x", (1, 4)), value("w", (4,))], {"w": np.ones(4, np.float32)}, ir=3)
    with pytest.raises(ModelShapeError, match="inputs are 'x'"):
        import_onnx(model, {"w": (4,)})


def test_another_rank_is_refused() -> None:
    with pytest.raises(ModelShapeError, match=r"3 dimensions, \[3, 8, 8\], but the model has 4: \[N, 3, 8, 8\]"):
        import_onnx(make_model(CONV, ("N", 3, 8, 8), W), {"x": (3, 8, 8)})


def test_another_size_than_a_fixed_one_is_refused() -> None:
    with pytest.raises(ModelShapeError, match="fixes dimension 1 to 3"):
        import_onnx(make_model(CONV, ("N", 3, 8, 8), W), {"x": (1, 4, 8, 8)})


@pytest.mark.parametrize(
    "shape, complaint",
    [((0, 3, 8, 8), "zero or negative"), ((1, 3, -8, 8), "zero or negative"), ((2**20, 3, 2**10, 8), "elements; at most")],
)
def test_an_absurd_shape_is_refused(shape: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(ModelShapeError, match=f"shape asked for input 'x' .*{complaint}"):
        import_onnx(make_model(CONV, ("N", 3, "H", "W"), W), {"x": shape})


@pytest.mark.parametrize("shape, complaint", [((1, 3, 0, 8), "zero or negative"), ((1, 3, 2**20, 2**20), "elements; at most")])
def test_an_absurd_shape_in_the_model_is_refused(shape: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(ModelShapeError, match=f"input 'x' .*{complaint}"):
        import_onnx(make_model(CONV, shape, W))


def test_an_input_without_a_shape_needs_one() -> None:
    with pytest.raises(ModelShapeError, match="not even its rank. Give it with --shape x="):
        import_onnx(make_model(CONV, [helper.make_tensor_value_info("x", 1, None)], W))


def test_an_input_without_a_shape_takes_the_given_one() -> None:
    assert import_onnx(make_model(CONV, [helper.make_tensor_value_info("x", 1, None)], W), {"x": (1, 3, 4, 4)}).outputs[0].shape == (
        1,
        8,
        2,
        2,
    )


def test_an_input_too_small_for_the_kernel_is_refused() -> None:
    with pytest.raises(ModelShapeError):
        import_onnx(make_model(CONV, ("N", 3, "H", "W"), W), {"x": (1, 3, 2, 2)})


def test_channels_that_do_not_fit_the_weight_are_refused() -> None:
    with pytest.raises(ModelShapeError, match="Conv|channel|dimension"):
        import_onnx(make_model(CONV, (1, 4, 8, 8), W))


@pytest.mark.parametrize("target", [[-1, 6], [0, -1]])
def test_a_fixed_batch_can_be_changed_where_the_graph_allows_it(target: list[int]) -> None:
    imported = import_onnx(_flat(target), {"x": (3, 2, 3)})
    assert imported.outputs[0].shape == (3, 5)
    assert tensor_differences(imported, random_feeds(imported)) == []


@pytest.mark.parametrize("target", [[1, 6], [1, -1]])
def test_a_batch_baked_into_a_reshape_cannot_be_changed(target: list[int]) -> None:
    with pytest.raises(ModelShapeError):
        import_onnx(_flat(target), {"x": (3, 2, 3)})


def test_a_batch_that_gets_lost_on_the_way_cannot_be_changed() -> None:
    weights = {"t": np.asarray([1, -1], np.int64)}
    model = make_model([node("Reshape", ["x", "t"], ["y"])], (1, 2, 3), weights)
    with pytest.raises(ModelShapeError, match=r"exported for one batch size, and --shape asks for 3.* output 'y' has shape \[1, 18\]"):
        import_onnx(model, {"x": (3, 2, 3)})


def test_a_rank_0_input_is_taken() -> None:
    imported = import_onnx(make_model([node("Neg", ["x"], ["y"])], ()))
    assert imported.inputs[0].shape == ()
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_a_shape_that_depends_on_the_data_is_refused() -> None:
    with pytest.raises(ModelShapeError, match="'i', which NonZero node 'find' .* makes, is .* depends on the data"):
        import_onnx(make_model([node("NonZero", ["x"], ["i"], "find"), node("Cast", ["i"], ["y"], to=1)]))


def test_stale_shapes_in_the_file_are_inferred_anew() -> None:
    model = make_model([node("Relu", ["x"], ["r"]), node("Neg", ["r"], ["y"])], ("N", 4))
    model.graph.value_info.append(value("r", (7, 4)))
    model.graph.output[0].CopyFrom(value("y", (7, 4)))
    assert import_onnx(model, {"x": (2, 4)}).outputs[0].shape == (2, 4)


def test_a_failure_of_shape_inference_itself_is_an_error_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise ValueError("serialized size exceeds 2 GB")

    monkeypatch.setattr("onnx.shape_inference.infer_shapes", too_large)
    with pytest.raises(ModelFormatError, match="Shape inference fails on the model: serialized size exceeds 2 GB"):
        import_onnx(make_model(CONV, (1, 3, 8, 8), W))


def test_an_output_may_be_an_input_as_well() -> None:
    describe = helper.make_tensor_value_info
    x = describe("x", 1, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [x], [describe("y", 1, [1, 4]), x])
    imported = import_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    assert [spec.shape for spec in imported.outputs] == [(1, 4), (1, 4)]


def test_an_operator_whose_shape_onnx_cannot_infer_is_named() -> None:
    weights = {name: np.ones(4, np.float32) for name in "sb"}
    model = make_model([node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)], (1, 4, 5, 5), weights)
    model.opset_import[0].version = 21
    with pytest.raises(UnsupportedOperator, match="GroupNormalization.*cannot tell the shape"):
        import_onnx(model)

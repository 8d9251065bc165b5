from __future__ import annotations

import numpy as np
import pytest

from bnncc.errors import ModelShapeError
from bnncc.frontend import ImportedModel, import_onnx

from .comparing import random_feeds, tensor_differences
from .models import make_model, node

F = np.float32
PLACES = [node("NonZero", ["m"], ["nz"]), node("Transpose", ["nz"], ["at"], perm=[1, 0])]
COUNT = [node("Reshape", ["m", "flat"], ["mf"]), node("Cast", ["mf"], ["mi"], to=7), node("ReduceSum", ["mi", "first"], ["n"])]


def imported(nodes: list, **weights: np.ndarray) -> ImportedModel:
    known = {"zero": np.asarray(0, F), "flat": np.asarray([-1]), "first": np.asarray([0]), **weights}
    read = {name for n in nodes for name in n.input}
    return import_onnx(make_model(nodes, (2, 3, 4), {name: array for name, array in known.items() if name in read}))


def kinds(model: ImportedModel) -> list[str]:
    return [n.op_type for n in model.folded.graph.node]


@pytest.mark.parametrize("value", [np.asarray(-1, F), np.asarray([-1], F)], ids=["scalar", "list of one"])
def test_a_number_written_where_a_mask_is_true_is_a_selection(value: np.ndarray) -> None:
    written = [node("Expand", ["v", "n"], ["e"]), node("Reshape", ["e", "flat"], ["u"]), node("ScatterND", ["x", "at", "u"], ["y"])]
    model = imported([node("Less", ["x", "zero"], ["m"]), *PLACES, *COUNT, *written], v=value)
    assert kinds(model) == ["Less", "Where"]
    assert tensor_differences(model, random_feeds(model), tolerance=0) == []


def test_a_sign_written_in_two_steps_is_two_selections() -> None:
    """As ``y[y >= 0] = 1; y[y < 0] = -1``: the second mask is taken from what the first write left."""
    nodes = []
    for step, (test, given, value) in enumerate((("GreaterOrEqual", "x", "plus"), ("Less", "y0", "minus"))):
        renamed = {"m": f"m{step}", "nz": f"nz{step}", "at": f"at{step}", "mf": f"mf{step}", "mi": f"mi{step}", "n": f"n{step}"}
        part = [node(test, [given, "zero"], ["m"]), *PLACES, *COUNT, node("Expand", [value, "n"], ["u"]), node("ScatterND", [given, "at", "u"], ["y"])]
        for n in part:
            own = {**renamed, "u": f"u{step}", "y": "y" if step else "y0"}
            nodes.append(node(n.op_type, [own.get(i, i) for i in n.input], [own.get(o, o) for o in n.output]))
            nodes[-1].attribute.extend(n.attribute)
    model = imported(nodes, plus=np.asarray(1, F), minus=np.asarray(-1, F))
    assert kinds(model) == ["GreaterOrEqual", "Where", "Less", "Where"]
    assert tensor_differences(model, random_feeds(model), tolerance=0) == []


def test_another_tensor_s_elements_written_at_their_own_places_are_a_selection() -> None:
    written = [node("Neg", ["x"], ["z"]), node("GatherND", ["z", "at"], ["u"]), node("ScatterND", ["x", "at", "u"], ["y"])]
    model = imported([node("Less", ["x", "zero"], ["m"]), *PLACES, *written])
    assert sorted(kinds(model)) == ["Less", "Neg", "Where"]
    assert tensor_differences(model, random_feeds(model), tolerance=0) == []


def test_elements_of_another_mask_s_places_are_none() -> None:
    other = [node("Greater", ["x", "zero"], ["m2"]), node("NonZero", ["m2"], ["nz2"]), node("Transpose", ["nz2"], ["at2"], perm=[1, 0])]
    written = [node("GatherND", ["x", "at2"], ["u"]), node("ScatterND", ["x", "at", "u"], ["y"])]
    with pytest.raises(ModelShapeError, match="NonZero.* depends on the data"):
        imported([node("Less", ["x", "zero"], ["m"]), *PLACES, *other, *written])

"""Sections cover the program, border on ONNX tensors only, and compute what main computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import bnncc
from bnncc.errors import InternalError
from bnncc.ops.pack import PackAttrs
from bnncc.passes.context import TensorView
from bnncc.passes.rewrite import Graph
from bnncc.report.sections import Boundary, cut_sections

from .network import compiled, images


@pytest.fixture(scope="module")
def artifact():
    return compiled()


def cut(artifact, context=None):
    return cut_sections(artifact.fused, context or artifact.context, ["y"])


def test_every_section_borders_on_onnx_tensors_and_all_calls_are_in_one(artifact):
    module, sections = cut(artifact)
    calls = [
        str(b.value.op.name_hint) for b in Graph(artifact.fused).bindings if hasattr(b.value, "op") and hasattr(b.value.op, "name_hint")
    ]
    found = []
    for section in sections:
        graph = Graph(module, section.entry)
        found += [b.value.op.name_hint for b in graph.bindings if hasattr(b.value, "op") and hasattr(b.value.op, "name_hint")]
        assert [p.name for p in graph.params] == [b.name for b in section.inputs]
        assert all(b.view.onnx for b in (*section.inputs, *section.outputs))
    assert sorted(found) == sorted(calls)


def test_sections_in_a_row_give_what_main_gives(artifact, tmp_path):
    module, sections = cut(artifact)
    replace(artifact, fused=module).save(tmp_path / "out", ("main", *(s.entry for s in sections)))
    model = bnncc.load(tmp_path / "out")
    x = images(1)
    held = {"x": x}
    for section in sections:
        held.update(
            zip([b.name for b in section.outputs], model.run_entry(section.entry, *(held[b.name] for b in section.inputs)), strict=True)
        )
    np.testing.assert_array_equal(held["y"], model(x))


def test_a_tensor_that_onnx_does_not_have_joins_its_sections(artifact):
    _, sections = cut(artifact)
    (name,) = [b.name for s in sections for b in s.outputs if b.view.onnx == "bits_1"]
    context = replace(artifact.context, tensors={k: v for k, v in artifact.context.tensors.items() if k != name})
    _, fewer = cut(artifact, context)
    assert len(fewer) == len(sections) - 1
    (joined,) = [s for s in fewer if "bits_2" in {b.view.onnx for b in s.outputs}]
    assert {b.view.onnx for b in joined.inputs} == {"bits_0"} and joined.is_binary


def test_words_of_which_nothing_is_recorded_are_no_border(artifact):
    context = replace(artifact.context, packed={})
    _, sections = cut(artifact, context)
    assert not any(b.dtype == "uint64" for s in sections for b in (*s.inputs, *s.outputs))


def test_float_sections_are_not_of_the_binarized_part(artifact):
    _, sections = cut(artifact)
    binary = {b.view.onnx: s.is_binary for s in sections for b in s.outputs}
    assert binary["bits_0"] and binary["bits_1"] and binary["y"]


def boundary(**changes):
    given = dict(name="v", view=TensorView("t", (0, 2, 1), 0.5, 0.5), packed=PackAttrs(3, 1, 64, 1), shape=(1, 2, 1), dtype="uint64")
    return Boundary(**{**given, **changes})


def test_a_tensor_is_encoded_by_its_axes_its_scale_and_its_words():
    b = boundary()
    tensor = np.float32([[[0, 1], [1, 1], [0, 0]]])  # (1, channels, pixels): codes -1 and +1
    assert b.encode(tensor).tolist() == [[[0b101], [0b100]]]
    np.testing.assert_array_equal(b.decode(b.encode(tensor)), [[[-1, 1, -1], [1, 1, -1]]])


def test_residues_of_training_are_rounded_to_the_code():
    b = boundary(view=TensorView("t", (0, 2, 1)))
    assert b.encode(np.float32([[[-1.0000001], [0.9999999], [1]]] * 1).repeat(2, 2)).tolist() == [[[1], [1]]]


@pytest.mark.parametrize(
    "changes, tensor, words",
    [
        ({}, np.full((1, 3, 2), 0.5), "holds codes"),  # 0, in one plane
        ({"packed": None, "dtype": "int8", "shape": (1, 2, 3)}, np.full((1, 3, 2), 900.0), "holds codes"),
        ({"shape": (1, 5, 1)}, np.ones((1, 3, 2)), "has shape"),
    ],
    ids=["zero in one plane", "no code", "another shape"],
)
def test_a_tensor_that_the_variable_cannot_hold_is_an_internal_error(changes, tensor, words):
    with pytest.raises(InternalError, match=words):
        boundary(**changes).encode(tensor.astype(np.float32))


def test_int8_codes_and_floats_are_encoded_as_they_are():
    codes = boundary(packed=None, dtype="int8", shape=(1, 2, 3))
    assert codes.encode(np.float32([[[0, 1], [1, 1], [0, 0.5]]])).tolist() == [[[-1, 1, -1], [1, 1, 0]]]
    floats = boundary(packed=None, dtype="float32", shape=(1, 2, 3), view=TensorView("t", (0, 2, 1)))
    tensor = np.random.default_rng(0).normal(size=(1, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(floats.encode(tensor), tensor.transpose(0, 2, 1))


def test_codes_of_several_bits_are_encoded_plane_by_plane():
    b = boundary(view=TensorView("t", (0, 2, 1), 0.5, 0.0), packed=PackAttrs(3, 1, 64, 2, 0, 1), shape=(1, 2, 2))
    tensor = np.float32([[[0, 1.5], [0.5, 1], [1, 0]]])  # codes 0 1 2 and 3 2 0, bit 1 where a digit is 0
    assert b.encode(tensor).tolist() == [[[0b101, 0b011], [0b110, 0b100]]]
    np.testing.assert_array_equal(b.decode(b.encode(tensor)), [[[0, 1, 2], [3, 2, 0]]])
    with pytest.raises(InternalError, match="from 0 to 3"):
        b.encode(tensor + 1)


LEVELS = ((-3.0, -1), (-1.0, 1), (1.0, -1), (3.0, 1))


def test_one_plane_of_uneven_levels_is_encoded_by_the_nearest_level():
    b = boundary(view=TensorView("t", (0, 2, 1), levels=LEVELS))
    tensor = np.float32([[[-3, 3.1], [-0.9, 1], [1, 0.9]]])
    np.testing.assert_array_equal(b.decode(b.encode(tensor)), [[[-1, 1, -1], [1, -1, -1]]])


def test_a_plane_between_two_bounds_is_open_where_a_level_between_them_says_otherwise():
    b = boundary(view=TensorView("t", (0, 2, 1), levels=LEVELS))
    low, high = b.between(np.float32([[[-3, -1], [0.9, -1.1], [1, 3]]]), np.float32([[[1, 1], [1.1, -0.9], [-1, 3]]]))
    np.testing.assert_array_equal(low, [[[-1, -1, -1], [-1, 1, 1]]])
    np.testing.assert_array_equal(high, [[[1, -1, 1], [1, 1, 1]]])

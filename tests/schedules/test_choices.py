from __future__ import annotations

import pytest
from group_runner import group
from tvm import relax

from bnncc.errors import InternalError
from bnncc.ops import bnn
from bnncc.schedules import build_kernel
from bnncc.schedules.choices import Choices
from bnncc.targets.x86 import V3


def test_the_default_is_taken_and_becomes_an_option():
    choices = Choices()
    assert choices.choose("tile", [4, 3], [(6, 2)]) == (4, 3)
    assert choices.asked["tile"].options == ((4, 3), (6, 2)) and choices.taken == {"tile": (4, 3)}


def test_a_decision_read_from_json_is_taken():
    assert Choices({"tile": [6, 2]}).choose("tile", (4, 3), [(4, 3), (6, 2)]) == (6, 2)


def test_a_decision_that_is_no_option_is_refused_or_passed_over():
    with pytest.raises(InternalError, match="'tile' of a kernel was decided as 5"):
        Choices({"tile": 5}).choose("tile", 1, [1, 2])
    assert Choices({"tile": 5}, strict=False).choose("tile", 1, [1, 2]) == 1


def test_one_question_asked_with_different_options_is_a_bug():
    choices = Choices()
    choices.choose("tile", 1, [1, 2])
    assert choices.choose("tile", 1, [1, 2]) == 1
    with pytest.raises(InternalError, match="twice"):
        choices.choose("tile", 1, [1, 3])


def binary_layer() -> relax.Function:
    def emit(b, x, w):
        return bnn.packed_conv2d(x, w, channels=64)

    return group(emit, ((1, 6, 6, 1), "uint64"), ((64, 3, 3, 1), "uint64"), constants=(1,))


def test_a_binary_layer_leaves_its_formulation_open():
    kernel = build_kernel(binary_layer(), V3)
    formulation = next(c for c in kernel.choices if c.name == "formulation")
    assert set(formulation.options) == {"sliced", "sliced by ones", "lookup", "lookup by pixels", "carry-save popcount", "popcount"}
    assert kernel.note.startswith(formulation.default)
    for option in formulation.options:
        assert build_kernel(binary_layer(), V3, {"formulation": option}).note.startswith(option)


def test_a_decision_on_what_a_kernel_does_not_ask_for_is_an_error():
    with pytest.raises(InternalError, match="decisions on colour were made for a kernel that asks for .*formulation"):
        build_kernel(binary_layer(), V3, {"colour": 1})
    assert build_kernel(binary_layer(), V3, {"colour": 1}, strict=False).choices



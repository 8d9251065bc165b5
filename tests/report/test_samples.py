"""Arrays of samples are cut into what the model takes, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.errors import InputError
from bnncc.report.samples import samples_of
from bnncc.spec import TensorSpec

ONE = [TensorSpec("x", (1, 3), "float32")]
BATCH = [TensorSpec("x", (2, 3), "float32")]
TWO = [TensorSpec("a", (1, 3), "float32"), TensorSpec("b", (4,), "int64")]


def numbers(*shape, dtype="float32"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    "specs, shape, count",
    [(ONE, (1, 3), 1), (ONE, (5, 3), 5), (ONE, (5, 1, 3), 5), (BATCH, (2, 3), 1), (BATCH, (6, 3), 3), (BATCH, (5, 2, 3), 5)],
)
def test_samples_lie_along_the_first_axis_or_one_before_it(specs, shape, count):
    array = numbers(*shape)
    samples = samples_of(array, specs)
    assert len(samples) == count
    np.testing.assert_array_equal(np.stack([s["x"] for s in samples]), array.reshape(count, *specs[0].shape))


def test_an_input_without_axes_stays_one():
    specs = [TensorSpec("s", (), "float32")]
    for given, expected in ((numbers(), [0.0]), (numbers(3), [0.0, 1.0, 2.0])):
        samples = samples_of(given, specs)
        assert [s["s"].shape for s in samples] == [()] * len(expected) and [float(s["s"]) for s in samples] == expected


def test_several_inputs_are_given_by_name():
    samples = samples_of({"a": numbers(3, 3), "b": numbers(3, 4, dtype="int64")}, TWO, limit=2)
    assert len(samples) == 2 and samples[1]["a"].tolist() == [[3, 4, 5]] and samples[1]["b"].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "given, specs, words",
    [
        (numbers(2, 4), ONE, "shape \\[2, 4\\]"),
        (numbers(3), ONE, "takes \\[1, 3\\], or \\[N, 3\\]"),
        (numbers(0, 3), ONE, "shape \\[0, 3\\]"),
        (numbers(5, 3), BATCH, "or \\[N, 2, 3\\]"),
        (numbers(2, 3, dtype="uint8"), ONE, "astype\\('float32'\\)"),
        (numbers(1, 3), TWO, "has 2 inputs"),
        (np.array([[0, 1, 2], [3, np.nan, 5]], np.float32), ONE, "NaN, the first at \\[1, 1\\]"),
        ({"z": numbers(1, 3)}, ONE, "no input 'z'"),
        ({"a": numbers(1, 3)}, TWO, "'b' is missing"),
        ({"a": numbers(2, 3), "b": numbers(3, 4, dtype="int64")}, TWO, "different numbers of samples: a 2, b 3"),
    ],
)
def test_what_does_not_fit_is_told(given, specs, words):
    with pytest.raises(InputError, match=words):
        samples_of(given, specs)

from __future__ import annotations

import numpy as np
import pytest

from bnncc.passes.integers import even_levels, integer_filters

f32 = np.float32


@pytest.mark.parametrize(
    "values, codes, offset, dtype",
    [
        ([0, 0.5, 1, 1.5], [0, 1, 2, 3], 0, "int8"),
        ([-1.5, -0.5, 0.5, 1.5], [-3, -1, 1, 3], 0, "int8"),
        ([-2, -1, 0, 1], [-2, -1, 0, 1], 0, "int8"),
        ([0.3, 1.3, 2.3, 3.3], [0, 1, 2, 3], 0.3, "int8"),
        (np.arange(256), np.arange(256), 0, "uint8"),
        (np.arange(-128, 128), np.arange(-128, 128), 0, "int8"),
        (np.arange(200) + 0.25, np.arange(-128, 72), 128.25, "int8"),
    ],
)
def test_levels_are_codes_times_a_scale(values, codes, offset, dtype):
    found = even_levels(np.array(values, f32))
    assert found.codes.tolist() == list(codes) and found.offset == pytest.approx(offset) and found.dtype == dtype


@pytest.mark.parametrize("scale", [0.0039215689, 0.33674246, 1 / 7, 0.10739168, 1e-6, 123.4])
@pytest.mark.parametrize("low, high", [(0, 255), (-127, 127), (0, 15), (-8, 7)])
def test_levels_of_rounded_products_are_reproduced_exactly(scale, low, high):
    values = np.arange(low, high + 1).astype(f32) * f32(scale)
    found = even_levels(values)
    np.testing.assert_array_equal(found.codes.astype(f32) * found.scale + found.offset, values)


@pytest.mark.parametrize("values", [[0, 1], [-2, 0, 2], [0, 1, 3, 4], [0, 1, 2, np.inf], list(range(257)), [0, 1, 2.001, 3]])
def test_uneven_levels_too_few_and_too_many_are_none(values):
    assert even_levels(np.array(values, f32)) is None


@pytest.mark.parametrize("largest", [1, 2, 7, 127, 255])
def test_filters_of_small_integers_are_found_behind_their_scales(largest):
    rng = np.random.default_rng(largest)
    integers = rng.integers(-largest, largest + 1, (9, 3, 3, 5))
    integers[:, 0, 0, 0], integers[:, 0, 0, 1] = largest, 1  # no common divisor
    scale = rng.uniform(0.001, 3, 9).astype(f32)
    found = integer_filters(integers.astype(f32) * scale[:, None, None, None])
    np.testing.assert_array_equal(found.integers, integers)
    np.testing.assert_allclose(found.scale, scale, rtol=2e-7)
    assert found.bits == int(2 * largest).bit_length()


def test_the_lowest_integer_of_eight_bits_is_held():
    found = integer_filters(np.array([[-128, 1, 127]], f32))
    assert found.integers.tolist() == [[-128, 1, 127]]


def test_bipolar_weights_of_eight_bits_are_odd_numbers_of_sixteen():
    """DoReFa's 2 * round(255 t) / 255 - 1."""
    odd = 2 * np.random.default_rng(0).integers(0, 256, (4, 40)) - 255
    odd[:, :2] = 255, -253
    found = integer_filters((odd / 255).astype(f32))
    np.testing.assert_array_equal(found.integers, odd)
    assert found.integers.dtype == np.int16 and found.bits == 8


def test_a_dead_filter_has_scale_0():
    found = integer_filters(np.array([[0, 0], [2, -1]], f32))
    assert found.integers.tolist() == [[0, 0], [2, -1]] and found.scale.tolist() == [0, 1]


@pytest.mark.parametrize(
    "filters",
    [np.random.default_rng(0).standard_normal((4, 40)), [[1, 2.001, 3]], [[1, np.inf]], [[257, 1]]],
    ids=["real", "off", "inf", "odd numbers of 9 bits"],
)
def test_other_filters_are_no_small_integers(filters):
    assert integer_filters(np.array(filters, f32)) is None


@pytest.mark.parametrize("scale", [0.03, 0.0039215689, 1 / 7, 123.4])
@pytest.mark.parametrize("zero_point", [5, 100, 131, 250])
def test_bytes_with_a_zero_point_are_levels_where_layers_alone_read_them(scale, zero_point):
    values = (np.arange(256) - zero_point).astype(f32) * f32(scale)
    found = even_levels(values, is_summed=True)
    assert found.dtype == "int8" and found.codes.tolist() == list(range(-128, 128))
    near = found.codes.astype(np.float64) * found.scale + found.offset
    assert np.abs(near - values).max() <= 2 * np.spacing(np.abs(values).max())
    code_of_zero = -np.float64(found.offset) / found.scale
    assert code_of_zero == pytest.approx(zero_point - 128, rel=2.0**-23)  # so near that padding is a code

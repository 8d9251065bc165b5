from __future__ import annotations

import math

import numpy as np
import pytest

from bnncc.passes.layout import Layout, common_factors

IMAGE = Layout.plain((2, 6, 4, 5))
NHWC = IMAGE.ordered((0, 2, 3, 1))


def _stored(array: np.ndarray, layout: Layout) -> np.ndarray:
    """Store an array of the logical shape as the layout says."""
    return array.reshape(layout.sizes).transpose(layout.order).reshape(layout.stored_shape)


def _numbered(shape):
    return np.arange(math.prod(shape)).reshape(shape)


@pytest.mark.parametrize(
    "first, second, common",
    [((128,), (2, 64), (2, 64)), ((2, 64), (64, 2), (2, 32, 2)), ((3, 4), (4, 3), None), ((), (), ()), ((6,), (6,), (6,)), ((2, 2), (2, 2), (2, 2))],
)
def test_common_factors_refine_both_splits(first, second, common):
    assert common_factors(first, second) == common


def test_axes_of_size_one_have_no_atoms():
    layout = Layout.plain((1, 6, 1, 5))
    assert layout == Layout(((), (6,), (), (5,)), ((), (0,), (), (1,)))
    assert layout.shape == layout.stored_shape == (1, 6, 1, 5)


def test_nhwc_stores_channels_last():
    assert NHWC.stored_shape == (2, 4, 5, 6) and NHWC.perm() == (0, 2, 3, 1)


def test_perm_gives_axes_of_size_one_the_places_left():
    assert Layout.plain((1, 6, 1, 1)).ordered((0, 2, 3, 1)).perm() == (0, 2, 3, 1)


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (3, 2, 1, 0), (0, 1, 2, 3)])
def test_a_transpose_of_the_value_keeps_the_memory(perm):
    x = _numbered(IMAGE.shape)
    np.testing.assert_array_equal(_stored(x.transpose(perm), NHWC.permuted(perm)), _stored(x, NHWC))


@pytest.mark.parametrize("shape", [(2, 120), (2, 3, 2, 4, 5), (12, 20), (2, 6, 20), (2, 1, 6, 2, 2, 5, 1), (240,)])
def test_a_reshape_of_the_value_keeps_the_memory(shape):
    x, layout = _numbered(IMAGE.shape), NHWC.reshaped(shape)
    assert layout.shape == shape
    np.testing.assert_array_equal(_stored(x.reshape(shape), layout).ravel(), _stored(x, NHWC).ravel())


def test_a_reshape_that_cuts_across_atoms_is_none():
    assert NHWC.reshaped((2, 4, 30)) is None


def test_a_shuffle_of_channels_and_its_inverse_are_the_same_layout():
    shuffled = NHWC.reshaped((2, 2, 3, 4, 5)).permuted((0, 2, 1, 3, 4)).reshaped((2, 6, 4, 5))
    assert shuffled != NHWC and shuffled.perm() is None
    assert shuffled.reshaped((2, 3, 2, 4, 5)).permuted((0, 2, 1, 3, 4)).reshaped((2, 6, 4, 5)) == NHWC


def test_a_flattened_image_regroups_into_rows_of_features():
    flat = NHWC.reshaped((2, 120)).regrouped()
    assert flat.stored_shape == (2, 120) and flat.perm() is None
    x = _numbered(IMAGE.shape)
    np.testing.assert_array_equal(_stored(x.reshape(2, 120), flat), x.transpose(0, 2, 3, 1).reshape(2, 120))


def test_memory_that_interleaves_axes_does_not_regroup():
    assert NHWC.reshaped((2, 3, 2 * 4 * 5)).regrouped() is None


def test_without_drops_atoms_on_both_sides():
    assert NHWC.without({2, 3}) == Layout(((2,), (6,), (), ()), ((0,), (), (), (1,)))


def test_with_outer_puts_an_axis_before_the_channels():
    base = NHWC.reshaped((2, 6, 1, 4, 5))
    layout = base.with_outer(2, 3)
    assert layout.shape == (2, 6, 3, 4, 5) and layout.stored == ((0,), (3,), (4,), (2, 1))
    assert base.with_outer(2, 1) is base


def test_gather_index_reorders_and_repeats():
    layout = Layout(((2,), (3,)), ())
    assert layout.gather_index((0, 1), (1, 0)).tolist() == [0, 3, 1, 4, 2, 5]
    assert layout.gather_index((1,), (0, 1)).tolist() == [0, 1, 2, 0, 1, 2]
    assert layout.gather_index((1,), (1, 0)).tolist() == [0, 0, 1, 1, 2, 2]

"""Lines and their bounds on rounding, against float32 arithmetic in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.passes.lines import LARGEST, REACH, Lines

f32 = np.float32
NONE = np.zeros((0, 1), f32)


def within(line: Lines, values: np.ndarray, x: np.ndarray) -> bool:
    """Tell whether float32 values keep to a line's own bound."""
    ideal = line.slope * x.astype(np.float64) + line.offset
    return bool(np.all(np.abs(values.astype(np.float64) - ideal) <= line.fixed + line.growing * np.abs(x.astype(np.float64))))


@pytest.mark.parametrize("seed", range(20))
def test_float32_sums_and_products_keep_to_the_bound(seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((1, 1000)) * 10.0 ** rng.uniform(-3, 5)).astype(f32)
    line, values = Lines.root((1, 1)), x
    for _ in range(8):
        c = f32(rng.standard_normal() * 10.0 ** rng.uniform(-2, 2))
        kind = int(rng.integers(0, 4))
        if kind == 0:
            line, values = line.times(np.float64(c)), values * c
        elif kind == 1:
            line, values = line.plus(Lines.constant(np.full((1, 1), c)), 1, NONE), values + c
        elif kind == 2:
            line, values = Lines.constant(np.full((1, 1), c)).plus(line, -1, NONE), c - values
        else:
            line, values = line.plus(Lines.root((1, 1)).times(np.float64(c)), 1, NONE), values + x * c
        assert within(line, values, x)


def test_what_cancels_is_flat_and_looked_at_as_far_as_the_breaks_tell():
    breaks = np.array([[0.0], [1.7]], f32)
    shifted = Lines.root((1, 1)).plus(Lines.constant(np.full((1, 1), f32(1.7))), -1, breaks)
    flat = Lines.root((1, 1)).plus(shifted, -1, breaks)
    assert flat.is_flat.all() and not flat.is_exact.any()
    assert flat.reach.item() == pytest.approx(REACH * 1.7, rel=1e-6)
    x = np.linspace(-REACH, REACH, 999).astype(f32)[None]
    low, high = flat.interval(np.float64(REACH), 1.0)
    values = x - (x - f32(1.7))
    assert low < values.min() and values.max() < high < 1.72


def test_what_is_no_longer_flat_beyond_its_reach_is_not_known():
    breaks = np.ones((1, 1), f32)
    shifted = Lines.root((1, 1)).plus(Lines.constant(np.ones((1, 1))), -1, breaks)
    flat = Lines.root((1, 1)).plus(shifted, -1, breaks)
    assert np.isnan(flat.plus(Lines.root((1, 1)), 1, breaks).slope).all()


def test_what_cancels_without_rounding_is_exact_everywhere():
    nothing = Lines.root((1, 1)).plus(Lines.root((1, 1)), -1, np.ones((1, 1), f32))
    assert nothing.is_exact.all() and nothing.offset.item() == 0 and nothing.reach.item() == float(LARGEST)


@pytest.mark.parametrize(("value", "slope", "offset"), [(-3.0, 0, -1), (0.5, 2, 0), (7.0, 0, 1)])
def test_a_clip_is_flat_where_it_saturates(value, slope, offset):
    line = Lines.root((1, 1)).times(np.float64(2)).bounded(np.full((1, 1), f32(value)), f32(-1), f32(1))
    assert (line.slope.item(), line.offset.item()) == (slope, offset)

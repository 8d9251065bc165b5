"""When popcounts of bit planes take the place of integer products."""

from __future__ import annotations

import pytest

from bnncc.passes.plane_costs import FEWEST_BYTES, SCALARS, SUMS, VECTORS


@pytest.mark.parametrize(
    "costs, pairs, inputs, reused, expected",
    [
        (VECTORS, 4, 64, True, True),
        (VECTORS, 6, 64, True, False),
        (VECTORS, 12, 64, False, True),
        (VECTORS, 16, 64, False, False),
        (VECTORS, 1, 8, True, False),
        (SCALARS, 4, 784, False, True),
        (SCALARS, 4, 16, True, False),
        (SCALARS, 2, 16, True, True),
        (FEWEST_BYTES, 12, 256, False, True),
        (SCALARS, 12, 256, False, False),
    ],
)
def test_planes_pay_up_to_a_number_of_pairs_that_the_processor_and_the_wish_decide(costs, pairs, inputs, reused, expected):
    assert costs.pay(pairs, inputs, 64, reused) is expected


@pytest.mark.parametrize(
    "bits, inputs, outputs, pixels, expected",
    [
        (3, 576, 64, 784, True),
        (2, 576, 64, 49, False),
        (2, 576, 32, 784, False),
        (3, 576, 64, 49, True),
        (3, 576, 64, 16, False),
        (2, 576, 64, 1024, True),
        (8, 576, 64, 16, True),
        (8, 576, 64, 1, False),
        (8, 576, 8, 784, False),
    ],
)
def test_sums_looked_up_pay_where_bits_are_many_and_lanes_filled(bits, inputs, outputs, pixels, expected):
    assert SUMS.pay(bits, inputs, outputs, pixels) is expected

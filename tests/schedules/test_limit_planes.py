"""Limits of counts inside the counters of sliced kernels."""

from __future__ import annotations

import numpy as np
import pytest
from group_runner import check_exact
from test_neon_kernels import NEON, emulated
from test_popcount_kernels import conv_bits

from bnncc.schedules import build_kernel, packed
from bnncc.schedules.formulations.limit_planes import limit_planes
from bnncc.schedules.formulations.sliced import sliced_formulation
from bnncc.targets.x86 import V2, V3

CASES = (
    (128, 256, {}),
    (64, 256, {"border": True}),
    (96, 512, {"bits": 32, "stride": 2}),
    (64, 512, {"groups": 2, "out_bits": 8}),
)


@pytest.fixture
def only_sliced(monkeypatch):
    monkeypatch.setattr(packed, "choose_formulation", lambda builder, shape: sliced_formulation(shape, builder.variant))


def test_bit_m_of_a_counter_says_whether_the_limit_is_reached():
    length, lanes = 9, 128
    limits = np.arange(2 * lanes).reshape(1, -1) % (length + 2)  # 0 is always reached, 10 never
    planes = limit_planes(limits, length, lanes)
    assert planes.shape == (1, 2, 5, 2) and planes.dtype == np.uint64
    bits = np.unpackbits(planes.view(np.uint8), axis=-1, bitorder="little")  # vector, plane, channel
    starts = (bits[0].astype(int) << np.arange(5)[:, None]).sum(axis=1).reshape(-1)
    for count in range(length + 1):
        np.testing.assert_array_equal(starts + count >> 4 & 1, count >= limits[0])


@pytest.mark.parametrize("variant", [V2, V3], ids=lambda variant: variant.name)
@pytest.mark.parametrize("inputs, outputs, options", CASES)
def test_kernels_that_end_in_bits_are_exact(inputs, outputs, options, variant, only_sliced, tmp_path):
    function, arrays = conv_bits(np.random.default_rng(inputs), inputs, outputs, 6, sums=False, **options)
    assert build_kernel(function, variant).note.endswith("limits in the counters")
    check_exact(function, arrays, tmp_path, variant)


@emulated
@pytest.mark.parametrize("inputs, outputs, options", CASES)
def test_kernels_that_end_in_bits_are_exact_on_neon(inputs, outputs, options, only_sliced, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(inputs), inputs, outputs, 6, sums=False, **options), tmp_path, NEON)


def test_sums_that_others_read_or_channels_that_fill_no_vector_take_the_counts(only_sliced):
    rng = np.random.default_rng(0)
    assert "limits" not in build_kernel(conv_bits(rng, 64, 256, 6)[0], V3).note, "the sums are an output too"
    assert "limits" not in build_kernel(conv_bits(rng, 64, 200, 6, sums=False)[0], V3).note

"""Kernels in the order of a processor that executes in order, bit for bit under an emulator."""

from __future__ import annotations

import numpy as np
import pytest
from group_runner import check_exact
from test_neon_kernels import emulated
from test_popcount_kernels import conv_bits

from bnncc.schedules import packed
from bnncc.schedules.formulations.sliced import sliced_formulation
from bnncc.targets import find_target


@emulated
@pytest.mark.parametrize("inputs, outputs, options", [(256, 128, {"sums": False}), (128, 128, {"sums": False}), (65, 33, {}), (16, 9, {})])
def test_sums_in_runs_are_exact(inputs, outputs, options, monkeypatch, tmp_path):
    monkeypatch.setattr(packed, "choose_formulation", lambda builder, shape: sliced_formulation(shape, builder.variant))
    function, arrays = conv_bits(np.random.default_rng(inputs), inputs, outputs, 7, **options)
    check_exact(function, arrays, tmp_path, find_target("cortex-a55").variants[0])

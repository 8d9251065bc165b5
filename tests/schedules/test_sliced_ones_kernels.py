"""The rows of inputs that are 1, added, bit for bit, also where it would not be chosen; where it is chosen; its code."""

from __future__ import annotations

import re

import numpy as np
import pytest
from group_runner import assembly, check_exact, group, words
from test_few_pixel_kernels import dense, shape_of
from test_popcount_kernels import conv_bits, two_planes

from bnncc.ops import bnn
from bnncc.schedules import packed
from bnncc.schedules.formulations.sliced import sliced
from bnncc.schedules.formulations.sliced_ones import sliced_by_ones
from bnncc.targets.x86 import V2, V3, V4, runs_here

VARIANTS = [variant for variant in (V2, V3) if runs_here(variant)]


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.name)
def here(request, monkeypatch):
    """Choose the formulation for every shape, and give the variant that runs here."""
    monkeypatch.setattr(packed, "choose_formulation", lambda builder, shape: sliced_by_ones(shape, builder.variant, builder.choices))
    return request.param


@pytest.mark.parametrize("k, m", [(1, 3), (7, 256), (64, 129), (65, 600), (1000, 512), (1030, 1024)])
def test_inputs_and_channels_need_not_fill_words_and_vectors(k, m, here, tmp_path):
    check_exact(*dense(k, m, 1), tmp_path, here)


@pytest.mark.parametrize("rows", [2, 5])
def test_every_pixel_has_a_list_of_its_own(rows, here, tmp_path):
    check_exact(*dense(300, 520, rows, sums=True), tmp_path, here)


@pytest.mark.parametrize("k", [128, 131])
@pytest.mark.parametrize("ones", ["none", "half", "one more", "all"])
def test_any_number_of_inputs_may_be_one(k, ones, here, tmp_path):
    function, arrays = dense(k, 256, 1)
    bits = np.zeros((1, -(-k // 64) * 64), np.uint8)
    bits[0, np.random.default_rng(k).permutation(k)[: {"none": 0, "half": k // 2, "one more": k // 2 + 1, "all": k}[ones]]] = 1
    arrays[0] = np.packbits(bits, axis=-1, bitorder="little").view(np.uint64)
    check_exact(function, arrays, tmp_path, here)


@pytest.mark.parametrize("ci, co, groups, word", [(70, 40, 1, 64), (24, 130, 1, 8), (64, 520, 2, 32), (33, 33, 3, 16)])
def test_convolutions_go_over_all_taps_and_groups(ci, co, groups, word, here, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(ci), ci * groups, co * groups, 4, groups=groups, bits=word), tmp_path, here)


@pytest.mark.parametrize("zeros", [False, True])
def test_codes_with_zeros_are_summed_over_two_planes(zeros, here, tmp_path):
    rng = np.random.default_rng(5)
    arrays = [two_planes(rng, (2,), 64, 200, 1, zeros), words(rng, (300,), 64, 200)]
    params = [(a.shape, "uint64") for a in arrays]
    check_exact(group(lambda b, x, w: bnn.packed_dense(x, w, channels=200, planes=2), *params, constants=(1,)), arrays, tmp_path, here)


@pytest.mark.parametrize("ones", [True, False])
def test_counts_of_many_inputs_fit_their_elements(ones, here, tmp_path):
    k = 40000
    arrays = [np.full((1, k // 64), -ones % (1 << 64), np.uint64), words(np.random.default_rng(3), (20,), 64, k)]
    params = [(a.shape, "uint64") for a in arrays]
    check_exact(group(lambda b, x, w: bnn.packed_dense(x, w, channels=k), *params, constants=(1,)), arrays, tmp_path, here)


def test_few_pixels_take_it_where_the_cases_of_the_weights_are_far():
    """192 KB for each pixel, of a table of half a byte for each weight."""

    def name(*shape):
        return sliced(shape_of(*shape), V3).name.partition(",")[0]

    assert [name(1024, 1024), name(2048, 2048, 2), name(9216, 4096), name(2048, 1024, 4)] == ["sliced by ones"] * 4
    assert [name(512, 512), name(1024, 512, 4), name(256, 256), name(1024, 1024, 64)] == ["sliced"] * 4
    assert sliced_by_ones(shape_of(1024, 1024), V4) is None, "nobody has timed it beside a vector popcount"


def test_sums_stay_in_registers(here):
    """64 rows: as many loads of places, 32 pairs of a load and an operation that loads, and 24 and a half full adders of two in 8 operations."""
    code = assembly(dense(1024, 1024, 1)[0], here)
    parts = [re.split(r"^\tj", part, flags=re.M)[0] for part in re.split(r"^\.LBB\S+:", code, flags=re.M)]
    main = max(parts, key=lambda part: len(re.findall(r"^\tv?pxor", part, re.M)) if "movslq" in part else 0)
    lines = [line for line in main.splitlines() if line.startswith("\t") and not line.startswith("\t.")]
    lookups = sum("movslq" in line for line in lines)
    assert lookups == 64 and len(lines) < (7 if here is V3 else 9) * lookups

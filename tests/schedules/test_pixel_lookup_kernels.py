"""The lookup formulation with lanes of pixels, bit for bit, also where it would not be chosen; the rule that chooses it; its code."""

from __future__ import annotations

import numpy as np
import pytest
from group_runner import assembly, check_exact, group, words
from test_popcount_kernels import conv_bits, two_planes
from test_sliced_kernels import loops
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.pack import tail_mask
from bnncc.schedules import build_kernel, packed
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.x86.lookup_pixels import lookup_pixels, pixel_formulation
from bnncc.targets.x86 import V2, V3, V4, runs_here

VARIANTS = [variant for variant in (V2, V3) if runs_here(variant)]


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.name)
def here(request, monkeypatch):
    """Choose the formulation for every shape, and give the variant that runs here."""
    chosen = []

    def choose(builder, shape):
        chosen.append(shape)
        return pixel_formulation(shape, builder.variant)

    monkeypatch.setattr(packed, "choose_formulation", choose)
    yield request.param
    assert chosen, "the kernel was built without asking for a formulation"


@pytest.mark.parametrize("outputs", [1, 7, 8, 9, 33])
def test_output_channels_need_not_fill_a_block(outputs, here, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(outputs), 32, outputs, 7), tmp_path, here)


@pytest.mark.parametrize("size", [3, 6, 8, 10, 20])
def test_pixels_need_not_fill_vectors(size, here, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(size), 20, 8, size), tmp_path, here)


@pytest.mark.parametrize(
    "inputs, kernel, bits", [(1, 3, 64), (5, 3, 8), (9, 3, 16), (40, 3, 32), (64, 3, 64), (65, 3, 64), (200, 1, 64), (300, 2, 64), (520, 1, 64)]
)
def test_lookups_need_not_fill_words_or_chunks(inputs, kernel, bits, here, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(inputs), inputs, 8, 7, kernel=kernel, bits=bits), tmp_path, here)


@pytest.mark.parametrize("stride, dilation, size", [(2, 1, 9), (1, 2, 9), (2, 3, 13)])
def test_strides_and_dilations_skip_the_right_pixels(stride, dilation, size, here, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(stride), 33, 16, size, stride=stride, dilation=dilation), tmp_path, here)


@pytest.mark.parametrize("ci, co, groups", [(128, 128, 4), (66, 30, 2), (24, 20, 4)])
def test_groups_follow_one_another_in_the_tile(ci, co, groups, here, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(groups), ci, co, 6, groups=groups), tmp_path, here)


def test_border_classes_correct_the_accumulator(here, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(0), 65, 20, 7, border=True), tmp_path, here)


@pytest.mark.parametrize("zeros", [False, True])
def test_codes_with_zeros_are_summed_over_two_planes(zeros, here, tmp_path):
    rng = np.random.default_rng(5)
    arrays = [two_planes(rng, (1, 6, 6), 64, 33, 1, zeros), words(rng, (12, 3, 3), 64, 33)]
    arrays += [np.sort(rng.integers(-4, 5, (2, 12)), axis=0).astype(np.int32)]

    def emit(b, x, w, t):
        y = b.emit(bnn.packed_conv2d(x, w, channels=33, planes=2))
        q = b.emit(bnn.quantize(y, t, relax.const(np.int8(1)), lo=-1, step=1))
        return y, bnn.pack(q, channels=12, planes=2)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2)), arrays, tmp_path, here)


@pytest.mark.parametrize("k, m, rows", [(1, 1, 1), (129, 33, 3), (784, 17, 40)])
def test_dense_layers_have_lanes_of_rows(k, m, rows, here, tmp_path):
    rng = np.random.default_rng(k)
    arrays = [words(rng, (rows,), 64, k), words(rng, (m,), 64, k)]
    check_exact(group(lambda b, x, w: bnn.packed_dense(x, w, channels=k), *((a.shape, "uint64") for a in arrays), constants=(1,)), arrays, tmp_path, here)


@pytest.mark.parametrize("ci, kernel", [(28, 3), (252, 1), (3640, 3)])
def test_bytes_and_sums_hold_the_highest_count(ci, kernel, here, tmp_path):
    """All bits differ: 252 in a byte, 32760 in all."""
    x = words(np.random.default_rng(7), (1, 4, 4), 64, ci)
    x[...] = tail_mask(ci, 1, 64)
    w = np.zeros((5, kernel, kernel, x.shape[-1]), np.uint64)
    function = group(lambda b, x, w: bnn.packed_conv2d(x, w, channels=ci), (x.shape, "uint64"), (w.shape, "uint64"), constants=(1,))
    check_exact(function, [x, w], tmp_path, here)


def shape_of(outputs=32, inputs=32, pixels=784, taps=(3, 3)):
    return BinaryShape("uint64", 1, outputs, inputs, taps, pixels, 1)


def test_lanes_are_pixels_only_where_channels_are_few_and_pixels_many():
    assert lookup_pixels(shape_of(), V3) and lookup_pixels(shape_of(outputs=8, inputs=64), V2)
    assert lookup_pixels(shape_of(outputs=64), V3) is None, "channels fill the lanes"
    assert lookup_pixels(shape_of(pixels=49), V3) is None, "pixels do not"
    assert lookup_pixels(shape_of(taps=(1, 1)), V3) is None, "too few inputs for what is made once for all channels"
    assert lookup_pixels(shape_of(), V4) is None, "a vector popcount is faster"
    assert pixel_formulation(shape_of(inputs=3641), V3) is None, "more than 16 bits"


def test_the_layer_it_is_for_chooses_it_and_keeps_its_loop_in_registers(tmp_path):
    function, arrays = conv_bits(np.random.default_rng(3), 32, 32, 30)
    assert "pixels" in build_kernel(function, V3).note
    main = max(loops(assembly(function, V3)), key=lambda part: sum(line.startswith("vpshufb") for line in part))
    main = main[: next(i for i, line in enumerate(main) if line.startswith("j"))]
    lookups = sum(line.startswith("vpshufb") for line in main)
    assert lookups >= 16 and len(main) <= 3.5 * lookups
    assert not any(line.startswith("vmovdq") and line.endswith(")") for line in main), "a store in the loop of the lookups is a spill"
    check_exact(function, arrays, tmp_path, VARIANTS[-1])

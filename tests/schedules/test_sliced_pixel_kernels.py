"""The sliced formulation with lanes of pixels, bit for bit, also where it would not be chosen; the rule that chooses it; its code."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from group_runner import CompiledGroup, assembly, check_exact, group, meaning, words
from test_popcount_kernels import conv_bits, two_planes
from test_sliced_kernels import loops
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.pack import tail_mask
from bnncc.schedules import build_kernel, packed
from bnncc.schedules.formulations import vertical_pairs
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.x86.lane_blocks import LaneBlocks
from bnncc.schedules.x86.sliced_pixels import _blocks as sliced_pixels_blocks
from bnncc.schedules.x86.sliced_pixels import sliced_pixel_kernel, sliced_pixels
from bnncc.targets.x86 import V2, V3, V4, runs_here

VARIANTS = [variant for variant in (V2, V3) if runs_here(variant)]


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.name)
def here(request, monkeypatch):
    """Choose the formulation for every shape, and give the variant that runs here."""
    chosen = []

    def choose(builder, shape):
        chosen.append(sliced_pixel_kernel(shape, builder.variant))
        return chosen[-1]

    monkeypatch.setattr(packed, "choose_formulation", choose)
    yield request.param
    assert chosen and None not in chosen


def bits(seed, *shape, **options):
    return conv_bits(np.random.default_rng(seed), *shape, sums=False, **options)


@pytest.mark.parametrize("outputs", [1, 33, 130])
def test_output_channels_need_not_fill_words(outputs, here, tmp_path):
    check_exact(*bits(outputs, 32, outputs, 7), tmp_path, here)


@pytest.mark.parametrize("size", [3, 19, 34])
def test_pixels_need_not_fill_vectors(size, here, tmp_path):
    check_exact(*bits(size, 20, 8, size), tmp_path, here)


@pytest.mark.parametrize("height, width", [(3, 300), (5, 515), (40, 3), (1, 258)])
def test_rows_longer_than_a_vector_are_cut_and_short_ones_joined(height, width, here, tmp_path):
    rng = np.random.default_rng(width)
    arrays = [words(rng, (1, height, width), 64, 5), words(rng, (9, min(height, 2), 2), 64, 5), rng.integers(-3, 4, (1, 9)).astype(np.int32)]

    def emit(b, x, w, t):
        y = b.emit(bnn.packed_conv2d(x, w, channels=5))
        return bnn.pack(b.emit(bnn.quantize(y, t, relax.const(np.int8(1)))), channels=9)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2)), arrays, tmp_path, here)


@pytest.mark.parametrize("inputs, outputs, groups, word", [(40, 130, 1, 64), (9, 12, 1, 8), (64, 40, 2, 32), (1, 5, 1, 64)])
@pytest.mark.parametrize("border", [False, True])
def test_rows_too_few_for_a_vector_are_permuted(inputs, outputs, groups, word, border, here, tmp_path):
    """Of 28 rows 9, 9, 9 and 1."""
    check_exact(*bits(outputs, inputs, outputs, 28, groups=groups, bits=word, border=border), tmp_path, here)


@pytest.mark.parametrize("height, width, kernel", [(38, 38, 3), (28, 32, 3), (28, 28, 1)])
def test_rows_that_are_left_may_be_several_and_padded_on_the_way(height, width, kernel, here, tmp_path):
    rng = np.random.default_rng(width)
    arrays = [words(rng, (2, height - 2, width - 2), 64, 70), words(rng, (96, kernel, kernel), 64, 70), tail_mask(70, 1, 64)]
    arrays.append(rng.integers(-9, 9, (1, 96)).astype(np.int32))

    def emit(b, x, w, fill, t):
        y = b.emit(bnn.packed_conv2d(b.emit(bnn.packed_pad(x, fill, (1, 1, 1, 1), "constant")), w, channels=70))
        return bnn.pack(b.emit(bnn.quantize(y, t, relax.const(np.int8(1)))), channels=96)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3)), arrays, tmp_path, here)


def test_blocks_leave_rows_where_that_takes_less_time():
    def rows_of(outputs: int, size: int, variant=V3) -> tuple[int, int]:
        blocks = sliced_pixels_blocks(BinaryShape("uint64", 1, outputs, outputs, (3, 3), size**2, 1, answers=True, rows=size), variant.vector_bits, size)
        return blocks.rows, blocks.rest.rows if blocks.rest else 0

    assert rows_of(128, 28) == (9, 1) and rows_of(64, 56) == (4, 0) and rows_of(256, 14) == (14, 0)
    assert rows_of(128, 28, V2)[1] == 0, "vpermd is of AVX2"


@pytest.mark.parametrize("inputs, kernel, word", [(1, 3, 64), (1, 1, 8), (9, 5, 16), (40, 3, 32), (65, 3, 64), (200, 1, 64), (2, 7, 8)])
def test_inputs_need_not_fill_words_or_chunks(inputs, kernel, word, here, tmp_path):
    check_exact(*bits(inputs, inputs, 8, 8, kernel=kernel, bits=word), tmp_path, here)


@pytest.mark.parametrize("stride, dilation, size", [(2, 1, 9), (2, 1, 67), (1, 2, 20), (2, 3, 23), (3, 1, 20)])
def test_strides_and_dilations_skip_the_right_pixels(stride, dilation, size, here, tmp_path):
    check_exact(*bits(stride, 33, 16, size, stride=stride, dilation=dilation), tmp_path, here)


@pytest.mark.parametrize("ci, co, groups, word", [(128, 128, 4, 64), (66, 30, 2, 64), (24, 20, 4, 8)])
def test_groups_follow_one_another_in_the_words(ci, co, groups, word, here, tmp_path):
    check_exact(*bits(groups, ci, co, 6, groups=groups, bits=word, out_bits=word), tmp_path, here)


@pytest.mark.parametrize("size", [7, 34])
def test_border_classes_move_the_limits(size, here, tmp_path):
    check_exact(*bits(size, 33, 20, size, border=True), tmp_path, here)


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_images_of_a_batch_are_padded_on_the_way(mode, here, tmp_path):
    rng = np.random.default_rng(3)
    arrays = [words(rng, (3, 13, 14), 64, 40), words(rng, (24, 3, 3), 64, 40), tail_mask(40, 1, 64), rng.integers(-9, 9, (1, 24)).astype(np.int32)]

    def emit(b, x, w, fill, t):
        y = b.emit(bnn.packed_conv2d(b.emit(bnn.packed_pad(x, fill, (1, 1, 1, 1), mode)), w, channels=40))
        return bnn.pack(b.emit(bnn.quantize(y, t, relax.const(np.int8(1)))), channels=24)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3)), arrays, tmp_path, here)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("inputs, outputs", [(33, 12), (100, 70)])
def test_codes_with_zeros_are_summed_over_two_planes(inputs, outputs, zeros, here, tmp_path):
    rng = np.random.default_rng(inputs)
    flip = rng.choice(np.array([-1, 1], np.int8), outputs)
    limits = np.sort(rng.integers(-4, 5, (2, outputs)), axis=0).astype(np.int32)
    limits = np.where(flip > 0, limits, limits[::-1])  # in the order in which codes grow
    arrays = [two_planes(rng, (2, 9, 9), 64, inputs, 1, zeros), words(rng, (outputs, 3, 3), 64, inputs), limits, flip]

    def emit(b, x, w, t, f):
        y = b.emit(bnn.packed_conv2d(x, w, channels=inputs, planes=2))
        return bnn.pack(b.emit(bnn.quantize(y, t, f, lo=-1, step=1)), channels=outputs, planes=2)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3)), arrays, tmp_path, here)


@pytest.mark.parametrize("times, each", [(3, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize("border", [False, True])
def test_repeated_channels_have_limits_each(times, each, border, here, tmp_path):
    rng, inputs, outputs, size = np.random.default_rng(each), 20, 22, 8
    many = outputs * times * each
    arrays = [words(rng, (1, size + 2, size + 2), 64, inputs), words(rng, (outputs, 3, 3), 64, inputs)]
    arrays += [rng.integers(-9, 10, (1, many)).astype(np.int32), rng.choice(np.array([-1, 1], np.int8), many)]
    if border:
        arrays += [rng.integers(-5, 6, (2, 2, outputs)).astype(np.int32), rng.integers(0, 2, size).astype(np.int32), rng.integers(0, 2, size).astype(np.int32)]

    def emit(b, x, w, t, f, *extra):
        y = b.emit(bnn.packed_conv2d(x, w, *extra, channels=inputs))
        q = b.emit(bnn.quantize(b.emit(bnn.repeat_channels(y, each=each, times=times)), t, f))
        return bnn.pack(q, channels=many)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=range(1, len(arrays))), arrays, tmp_path, here)


@pytest.mark.parametrize("reached", [True, False])
def test_limits_that_all_or_no_counts_reach(reached, here, tmp_path):
    function, arrays = bits(0, 9, 8, 6)
    arrays[2][...] = -1000 if reached else 1000
    check_exact(function, arrays, tmp_path, here)


@pytest.mark.parametrize("outputs, size", [(64, 40), (192, 10)])
def test_threads_store_what_one_thread_does(outputs, size, here, tmp_path):
    function, arrays = bits(1, 64, outputs, size)
    kernel = CompiledGroup(function, tmp_path, here)
    assert kernel.parallel, "blocks are shared out, and of a single one the outputs"
    expected = meaning(function, arrays)[0]
    for parts in (1, 2, 5):
        np.testing.assert_array_equal(kernel(*arrays, parts=parts)[0], expected)


@pytest.mark.parametrize("vectors", [*range(1, 20), 50, 64])
def test_counters_of_pairs_count(vectors, monkeypatch):
    names = ("bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor")
    monkeypatch.setattr(vertical_pairs, "tirx", SimpleNamespace(**{name: getattr(np, name) for name in names}))
    rng, weights = np.random.default_rng(vectors), 1 << np.arange(8)[:, None]
    start, added = rng.integers(0, 256, (8, 16)), rng.integers(0, 256, (vectors, 16))
    counter = vertical_pairs.PairCounter(SimpleNamespace(bind=lambda value, name: value), lambda i: start[i], 8)
    for row in added:
        counter.add(row, 0)
    counter.finish()
    planes = np.stack([start[i] if plane is None else plane for i, plane in enumerate(counter.planes)])
    for bit in range(8):
        counts = (weights * (start >> bit & 1)).sum(axis=0) + (added >> bit & 1).sum(axis=0)
        np.testing.assert_array_equal((weights * (planes >> bit & 1)).sum(axis=0), counts % 256)


def shape_of(outputs=64, inputs=64, size=28, taps=(3, 3), **others):
    return BinaryShape("uint64", 1, outputs, inputs, taps, size**2, 1, **{"answers": True, "rows": size, **others})


def test_lanes_are_pixels_where_they_fill_vectors_and_channels_share_the_table():
    assert sliced_pixels(shape_of(), V3) and sliced_pixels(shape_of(), V2) and sliced_pixels(shape_of(outputs=32, size=16), V3)
    assert sliced_pixels(shape_of(size=7), V3) is None, "a fifth of the lanes would be of use"
    assert sliced_pixels(shape_of(outputs=8, inputs=8), V3) is None, "too few channels for what is made once for all"
    assert sliced_pixels(shape_of(answers=False), V3) is None, "sums are wanted"
    assert sliced_pixels(shape_of(), V4) is None, "a vector popcount is there"


def test_rows_of_32_pixels_leave_no_lane_between_them():
    joined, apart = LaneBlocks.of(shape_of(size=32), 256, 32)
    assert (joined.rows, joined.pitch, len(joined.maps)) == (7, 34, 1)
    assert (apart.rows, apart.pitch, len(apart.maps)) == (8, 32, 3)


def test_the_layer_it_is_for_chooses_it_and_counts_in_registers(tmp_path):
    function, arrays = bits(3, 64, 64, 30)
    assert build_kernel(function, V3).note.startswith("sliced by pixels")
    main = max(loops(assembly(function, V3)), key=lambda part: sum(line.startswith("movzbl") for line in part))
    lookups = sum(line.startswith("movzbl") for line in main)
    assert lookups >= 64 and len(main) <= 7 * lookups
    check_exact(function, arrays, tmp_path, VARIANTS[-1])

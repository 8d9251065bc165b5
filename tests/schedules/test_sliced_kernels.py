"""The sliced formulation, bit for bit, also where it would not be chosen; the rule that chooses it; its code."""

from __future__ import annotations

import numpy as np
import pytest
from group_runner import assembly, check_exact, group, words
from test_popcount_kernels import conv_bits, two_planes
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.pack import tail_mask
from bnncc.schedules import build_kernel, packed
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.sliced import sliced, sliced_formulation
from bnncc.schedules.formulations.sliced_table import case_place, last_places, last_thirds, queue_words, row_count, table, triples
from bnncc.targets import Variant
from bnncc.targets.x86 import V2, V3, V4, runs_here

HERE = V3 if runs_here(V3) else V2
# Vectors of 512 bits, whose rows are longer than a case byte reaches, in code that any AVX2 machine runs: LLVM splits the vectors.
WIDE = Variant("wide", V3.tvm_target, 512, 16, cpu_features=V3.cpu_features)

WIDE_POPCOUNT = Variant("popcount", V4.tvm_target, 512, 32, instructions=frozenset({"vpopcnt"}))


@pytest.fixture
def always(monkeypatch):
    """Choose sliced for every shape, and tell how often it was."""
    chosen = []

    def choose(builder, shape):
        chosen.append(shape)
        return sliced_formulation(shape, builder.variant)

    monkeypatch.setattr(packed, "choose_formulation", choose)
    yield chosen
    assert chosen, "the kernel was built without asking for a formulation"


@pytest.mark.parametrize("outputs", [1, 31, 33, 255, 256, 257, 300, 512])
def test_output_channels_need_not_fill_a_register(outputs, always, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(outputs), 64, outputs, 6), tmp_path, HERE)


@pytest.mark.parametrize("inputs, kernel", [*((n, 3) for n in (1, 21, 63, 64, 65, 128, 129)), *((n, 1) for n in (1, 64, 65, 200)), (65, 2), (64, 5)])
def test_inputs_need_not_fill_words_or_triples(inputs, kernel, always, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(inputs), inputs, 40, 6, kernel=kernel), tmp_path, HERE)


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("inputs", [5, 40, 72])
def test_narrow_words_share_a_word_of_the_queue(bits, inputs, always, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(bits), inputs, 48, 6, bits=bits), tmp_path, HERE)


@pytest.mark.parametrize("stride, dilation, size", [(2, 1, 9), (1, 2, 9), (2, 3, 13), (3, 1, 11)])
def test_strides_and_dilations_skip_the_right_pixels(stride, dilation, size, always, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(stride), 96, 32, size, stride=stride, dilation=dilation), tmp_path, HERE)


@pytest.mark.parametrize("ci, co, groups", [(128, 128, 2), (66, 30, 2), (36, 600, 4)])
def test_groups_have_tables_of_their_own(ci, co, groups, always, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(groups), ci, co, 5, groups=groups), tmp_path, HERE)


def test_border_classes_correct_the_accumulator(always, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(0), 65, 270, 7, border=True), tmp_path, HERE)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("ci, co, groups", [(64, 64, 1), (33, 270, 1), (66, 64, 2)])
def test_codes_with_zeros_are_summed_over_two_planes(zeros, ci, co, groups, always, tmp_path):
    rng = np.random.default_rng(5)
    arrays = [two_planes(rng, (1, 6, 6), 64, ci, groups, zeros), words(rng, (co, 3, 3), 64, ci // groups)]
    arrays += [np.sort(rng.integers(-4, 5, (2, co)), axis=0).astype(np.int32)]

    def emit(b, x, w, t):
        y = b.emit(bnn.packed_conv2d(x, w, channels=ci, groups=groups, planes=2))
        q = b.emit(bnn.quantize(y, t, relax.const(np.int8(1)), lo=-1, step=1))
        return y, bnn.pack(q, channels=co, planes=2)

    params = [(a.shape, str(a.dtype)) for a in arrays]
    check_exact(group(emit, *params, constants=(1, 2)), arrays, tmp_path, HERE)


@pytest.mark.parametrize("k, m, rows", [(1, 1, 1), (129, 33, 3), (784, 65, 2), (4096, 256, 5)])
def test_dense_layers_are_exact(k, m, rows, always, tmp_path):
    rng = np.random.default_rng(k)
    arrays = [words(rng, (rows,), 64, k), words(rng, (m,), 64, k)]
    params = [(a.shape, "uint64") for a in arrays]
    check_exact(group(lambda b, x, w: bnn.packed_dense(x, w, channels=k), *params, constants=(1,)), arrays, tmp_path, HERE)


@pytest.mark.parametrize("ci, kernel", [(28, 3), (29, 3), (1000, 1), (3640, 3), (3641, 3), (7281, 3)])
@pytest.mark.parametrize("differ", [True, False])
def test_counters_hold_the_highest_count(ci, kernel, differ, always, tmp_path):
    """All bits differ, or none: at counts of one bit more, beyond half of 16 bits, and of nearly all 16 planes."""
    rng = np.random.default_rng(7)
    x, w = words(rng, (1, 4, 4), 64, ci), words(rng, (33, kernel, kernel), 64, ci)
    if differ:
        x[...], w[...] = tail_mask(ci, 1, 64), 0
    else:
        x[...], w[...] = 0, 0
    function = group(lambda b, x, w: bnn.packed_conv2d(x, w, channels=ci), (x.shape, "uint64"), (w.shape, "uint64"), constants=(1,))
    check_exact(function, [x, w], tmp_path, HERE)


@pytest.mark.parametrize("variant", [V2, V3, V4, WIDE], ids=lambda v: v.name)
def test_every_variant_that_runs_here_is_exact(variant, always, tmp_path):
    if not runs_here(variant):
        always.append(variant)  # the fixture asks whether any kernel was built
        pytest.skip(f"this machine does not run {variant.name}")
    check_exact(*conv_bits(np.random.default_rng(2), 129, 600, 7), tmp_path, variant)


def test_the_layer_it_is_for_chooses_it_and_is_exact(tmp_path):
    function, arrays = conv_bits(np.random.default_rng(3), 256, 256, 10)
    assert build_kernel(function, V3).note.startswith("sliced")
    check_exact(function, arrays, tmp_path, HERE)


def shape_of(outputs=256, inputs=256, pixels=49, taps=(3, 3)):
    return BinaryShape("uint64", 1, outputs, inputs, taps, pixels, 1)


def test_sliced_is_chosen_only_where_it_pays():
    assert sliced(shape_of(), V3) and sliced(shape_of(outputs=512), V3) and sliced(shape_of(outputs=128), V2)
    assert sliced(shape_of(outputs=512), V4), "a full adder is two instructions, which beats a vector popcount"
    assert sliced(shape_of(), V4) is None, "half of the lanes would be empty"
    assert sliced(shape_of(outputs=512), WIDE_POPCOUNT) is None, "this machine has a vector popcount, and full adders of five instructions"
    assert sliced(shape_of(outputs=128), V3) is None, "half of the lanes would be empty"
    assert sliced(shape_of(outputs=300), V3) is None, "the second vector would be nearly empty"
    assert sliced(shape_of(inputs=40), V3) and sliced(shape_of(outputs=176), V3)
    assert sliced(shape_of(inputs=40, outputs=176), V3) is None, "both words and lanes would be half empty"
    assert sliced(shape_of(taps=(1, 1)), V3) and sliced(shape_of(taps=(1, 1), inputs=64), V3)
    assert sliced(shape_of(taps=(1, 1), outputs=512), V4) is None, "what is done once a pixel weighs too much beside a vector popcount"


def test_more_than_16_planes_are_left_to_others():
    assert sliced(shape_of(inputs=7281), V3)
    assert sliced(shape_of(inputs=7282), V3) is None
    assert sliced_formulation(shape_of(inputs=7282), V3) is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_table_and_cases_give_the_number_of_differing_bits(count):
    """The identity itself in NumPy, apart from any kernel."""
    rng = np.random.default_rng(count)
    lanes = 16
    w, x = rng.integers(0, 256, (lanes, 8 * count), np.uint8), rng.integers(0, 256, 8 * count, np.uint8)
    rows = table(w, lanes).reshape(row_count(count), 8, lanes // 8)
    queue = [int(word) for word in x.view(np.uint64)]
    cases = []
    for t in range(triples(count)):
        a, b, c = queue[3 * t : 3 * t + 3]
        queue.append(a ^ b ^ c)
        of_bit = [(a >> i & 1) | (b >> i & 1) << 1 | (c >> i & 1) << 2 for i in range(64)]
        cases += [of_bit[bit] for bit in sorted(range(64), key=case_place)]
    left = queue[3 * triples(count) :]
    thirds = last_thirds(left, lambda word, first, size: word >> first & (1 << size) - 1, lambda word, places: word << places & (1 << 64) - 1)
    cases += [sum((thirds[i] >> bit & 1) << i for i in range(3)) for place in last_places(count) for bit in range(64) if case_place(bit) == place]
    assert len(left) == 2 - count % 2 and len(cases) == row_count(count)
    found = np.stack([np.unpackbits(rows[i, case, :], bitorder="little") for i, case in enumerate(cases)]).astype(int)
    counts = 2 * found[:-1].sum(0) + found[-1]
    expected = np.unpackbits(w ^ x, axis=1).sum(1)
    channel = [(bit % 8) * (lanes // 8) + bit // 8 for bit in range(lanes)]
    np.testing.assert_array_equal(counts, expected[channel])


def test_queue_words_join_narrow_words_of_all_taps():
    assert queue_words(9, 256, 64) == 36 and queue_words(9, 20, 32) == 5 and queue_words(1, 3, 8) == 1


def test_words_that_are_half_empty_share_a_word_of_the_queue():
    assert queue_words(9, 96, 64) == 9 + 5 and queue_words(9, 160, 64) == 18 + 5 and queue_words(9, 72, 64) == 9 + 2
    assert queue_words(9, 97, 64) == 18, "33 bits take a whole word"


def loops(code: str) -> list[list[str]]:
    """Return the instructions between labels."""
    parts: list[list[str]] = [[]]
    for line in code.splitlines():
        if line.startswith(".LBB"):
            parts.append([])
        elif line.startswith("\t") and not line.startswith("\t."):
            parts[-1].append(line.strip())
    return parts


@pytest.mark.parametrize("variant, logic, per_adder", [(V2, "p", 7), (V3, "vp", 5), (V4, "vpternlog", 3)], ids=["v2", "v3", "v4"])
def test_adders_stay_in_registers(variant, logic, per_adder, always):
    """The main loop: a byte and a vector loaded for a lookup, an adder each, no more stores than planes, nothing spilled.

    An adder of two instructions with two operands (v2, v4) costs a copy or two besides.
    """
    function, _ = conv_bits(np.random.default_rng(0), 128, 512, 8)
    main = max(loops(assembly(function, variant)), key=lambda part: sum("movzbl" in line for line in part) * (len(part) < 700))
    lookups = sum(line.startswith("movzbl") for line in main)
    assert lookups >= 32
    assert sum(line.startswith(logic) for line in main) >= 2 * lookups - 2
    planes = (9 * 128).bit_length()
    prefetches = sum(line.startswith("prefetch") for line in main)  # each with a place that is bounded
    assert len(main) <= lookups * (per_adder + 2) + 6 * planes + 6 * prefetches + 16
    if variant is V4:
        assert any(line.startswith("vpternlogq") and "zmm" in line for line in main)

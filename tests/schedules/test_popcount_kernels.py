"""Binary convolutions and dense layers with their epilogues, bit for bit."""

from __future__ import annotations

import re

import numpy as np
import pytest
from group_runner import CompiledGroup, assembly, check_exact, group, meaning, words
from tvm import relax
from tvm.script import relax as R

from bnncc.errors import InternalError
from bnncc.ops import bnn
from bnncc.ops.pack import PackAttrs, pack_reference, tail_mask, words_per_group
from bnncc.schedules import build_kernel
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.x86.lookup import lookup
from bnncc.targets import Variant
from bnncc.targets.x86 import V2, V3, V4, runs_here

# The 512-bit schedule in code that any AVX2 machine runs: LLVM splits the vectors.
WIDE = Variant("wide", V3.tvm_target, 512, 32, cpu_features=V4.cpu_features, instructions=frozenset({"vpopcnt", "pmaddwd"}))
EDGES = (1, 31, 32, 33, 63, 64, 65, 127, 128, 129)


def conv_bits(rng, ci, co, size, kernel=3, stride=1, dilation=1, groups=1, bits=64, out_bits=64, border=False, sums=True):
    """A convolution, per-channel integer thresholds in both directions, packed, and the sums as well if these are asked for."""
    wpg = words_per_group(ci, groups, bits)
    oh = (size - dilation * (kernel - 1) - 1) // stride + 1
    params = [((1, size, size, groups * wpg), f"uint{bits}"), ((co, kernel, kernel, wpg), f"uint{bits}"), ((1, co), "int32"), ((co,), "int8")]
    arrays = [
        words(rng, (1, size, size), bits, ci, groups),
        words(rng, (co, kernel, kernel), bits, ci // groups),
        rng.integers(-3, 4, (1, co)).astype(np.int32),
        rng.choice(np.array([-1, 1], np.int8), co),
    ]
    if border:
        params += [((2, 2, co), "int32"), ((oh,), "int32"), ((oh,), "int32")]
        arrays += [rng.integers(-5, 6, (2, 2, co)).astype(np.int32), rng.integers(0, 2, oh).astype(np.int32), rng.integers(0, 2, oh).astype(np.int32)]

    def emit(b, x, w, t, f, *extra):
        y = b.emit(bnn.packed_conv2d(x, w, *extra, channels=ci, strides=(stride, stride), dilation=(dilation, dilation), groups=groups))
        q = b.emit(bnn.quantize(y, t, f))
        word = bnn.pack(q, channels=co, word_bits=out_bits)
        return (word, y) if sums else word

    return group(emit, *params, constants=range(1, len(params))), arrays


@pytest.mark.parametrize("channels", EDGES)
def test_convolution_threshold_pack_is_exact_at_word_edges(channels, tmp_path):
    rng = np.random.default_rng(channels)
    check_exact(*conv_bits(rng, channels, channels, 7), tmp_path)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("out_bits", [8, 16, 32, 64])
def test_every_word_width_reads_and_writes(bits, out_bits, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(bits), 40, 72, 6, bits=bits, out_bits=out_bits), tmp_path)


@pytest.mark.parametrize("stride, dilation, size", [(2, 1, 9), (1, 2, 9), (2, 3, 13), (3, 1, 11)])
def test_strides_and_dilations_skip_the_right_pixels(stride, dilation, size, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(stride), 48, 32, size, stride=stride, dilation=dilation), tmp_path)


@pytest.mark.parametrize("ci, co, groups", [(128, 128, 2), (66, 30, 2), (36, 36, 4), (33, 33, 33), (24, 48, 24), (130, 130, 2), (64, 64, 64)])
@pytest.mark.parametrize("bits", [8, 64])
def test_groups_need_not_fill_words_or_vectors(ci, co, groups, bits, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(groups), ci, co, 5, groups=groups, bits=bits), tmp_path)


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("ci, co, groups, bits", [(48, 12, 4, 64), (96, 24, 4, 64), (96, 24, 4, 32), (280, 12, 4, 64), (20, 40, 4, 8), (33, 33, 33, 16)])
def test_groups_are_taken_out_of_words_of_all_channels(ci, co, groups, bits, planes, tmp_path):
    """Groups inside a word, across two, and of several words; `(33, 33, 33)` has one bit a group, and words of all channels are no depthwise kernel's."""
    rng = np.random.default_rng(9)
    arrays = [words(rng, (1, 6, 6), bits, ci) if planes == 1 else two_planes(rng, (1, 6, 6), bits, ci, 1, True), words(rng, (co, 3, 3), bits, ci // groups)]
    params = [(a.shape, str(a.dtype)) for a in arrays]
    made = {"channels": ci, "groups": groups, "planes": planes, "in_groups": 1}
    for variant in (V3, V4) if runs_here(V4) else (V3,) if runs_here(V3) else (V2,):
        check_exact(group(lambda b, x, w: bnn.packed_conv2d(x, w, **made), *params, constants=(1,)), arrays, tmp_path, variant)


def test_border_classes_correct_the_accumulator(tmp_path):
    check_exact(*conv_bits(np.random.default_rng(0), 65, 70, 7, border=True), tmp_path)
    check_exact(*conv_bits(np.random.default_rng(1), 33, 33, 7, groups=33, border=True), tmp_path)


@pytest.mark.parametrize("variant", [V2, V3, V4, WIDE], ids=lambda v: v.name)
@pytest.mark.parametrize("ci, co, groups, bits", [(33, 33, 1, 64), (64, 64, 1, 64), (129, 200, 1, 64), (66, 70, 2, 16)])
def test_every_variant_that_runs_here_is_exact(variant, ci, co, groups, bits, tmp_path):
    if not runs_here(V3 if variant is WIDE else variant):
        pytest.skip(f"this machine does not run {variant.name}")
    check_exact(*conv_bits(np.random.default_rng(2), ci, co, 7, groups=groups, bits=bits), tmp_path, variant)


@pytest.mark.parametrize("k, m, rows", [(1, 1, 1), (64, 10, 1), (129, 33, 3), (784, 65, 2), (4096, 128, 1)])
def test_dense_layers_are_exact(k, m, rows, tmp_path):
    rng = np.random.default_rng(k)
    wpg = words_per_group(k, 1, 64)
    arrays = [words(rng, (rows,), 64, k), words(rng, (m,), 64, k), rng.standard_normal(m).astype(np.float32), rng.integers(-4, 5, (1, m)).astype(np.int32)]

    def emit(b, x, w, scale, t):
        y = b.emit(bnn.packed_dense(x, w, channels=k))
        bits = bnn.pack(b.emit(bnn.quantize(y, t, relax.const(np.int8(-1)))), channels=m)
        return R.multiply(b.emit(R.astype(y, "float32")), scale), bits

    params = [((rows, wpg), "uint64"), ((m, wpg), "uint64"), ((m,), "float32"), ((1, m), "int32")]
    check_exact(group(emit, *params, constants=(1, 2, 3)), arrays, tmp_path)


def test_residual_epilogue_returns_the_float_sum_and_its_bits(tmp_path):
    """The group of a Bi-Real block: scale, shift, shortcut, RPReLU, then sum and bits, rounded as separate float32 operations."""
    rng = np.random.default_rng(3)
    c = 70
    vector = lambda: rng.standard_normal(c).astype(np.float32)  # noqa: E731
    arrays = [words(rng, (1, 8, 8), 64, c), words(rng, (c, 3, 3), 64, c), vector(), vector(), rng.standard_normal((1, 6, 6, c)).astype(np.float32)]
    arrays += [vector(), vector(), vector().reshape(1, c), rng.choice(np.array([-1, 1], np.int8), c)]

    def emit(b, x, w, a, s, shortcut, slope, shift, t, f):
        y = b.emit(R.astype(b.emit(bnn.packed_conv2d(x, w, channels=c)), "float32"))
        y = b.emit(R.add(b.emit(R.multiply(y, a)), s))
        y = b.emit(R.add(y, shortcut))
        y = b.emit(R.add(b.emit(R.nn.prelu(y, slope, axis=3)), shift))
        return y, bnn.pack(b.emit(bnn.quantize(y, t, f)), channels=c)

    params = [((1, 8, 8, 2), "uint64"), ((c, 3, 3, 2), "uint64"), ((c,), "float32"), ((c,), "float32"), ((1, 6, 6, c), "float32")]
    params += [((c,), "float32"), ((c,), "float32"), ((1, c), "float32"), ((c,), "int8")]
    check_exact(group(emit, *params, constants=(1, 2, 3, 5, 6, 7, 8)), arrays, tmp_path)


def test_two_packs_of_one_accumulator_have_their_own_thresholds(tmp_path):
    rng = np.random.default_rng(4)
    arrays = [words(rng, (1, 5, 5), 64, 64), words(rng, (96, 3, 3), 64, 64)]
    arrays += [rng.integers(-9, 9, (1, 96)).astype(np.int32) for _ in range(2)]

    def emit(b, x, w, t, u):
        y = b.emit(bnn.packed_conv2d(x, w, channels=64))
        codes = [b.emit(bnn.quantize(y, v, relax.const(np.int8(1)))) for v in (t, u)]
        return bnn.pack(codes[0], channels=96), bnn.pack(codes[1], channels=96, groups=2, word_bits=32)

    params = [((1, 5, 5, 1), "uint64"), ((96, 3, 3, 1), "uint64"), ((1, 96), "int32"), ((1, 96), "int32")]
    check_exact(group(emit, *params, constants=(1, 2, 3)), arrays, tmp_path)


def two_planes(rng, shape, bits, channels, groups, zeros):
    """Words of codes -1, 0, +1; without zeros both planes are equal."""
    codes = rng.choice(np.array([-1, 0, 1] if zeros else [-1, 1], np.int8), (*shape, channels))
    return pack_reference(PackAttrs(channels, groups, bits, 2), codes)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("ci, co, groups, bits", [(64, 64, 1, 64), (33, 21, 1, 64), (66, 64, 2, 32), (16, 16, 16, 8), (300, 96, 1, 64)])
def test_codes_with_zeros_are_summed_over_two_planes(zeros, ci, co, groups, bits, tmp_path):
    rng = np.random.default_rng(5)
    arrays = [two_planes(rng, (1, 6, 6), bits, ci, groups, zeros), words(rng, (co, 3, 3), bits, ci // groups)]
    arrays += [np.sort(rng.integers(-4, 5, (2, co)), axis=0).astype(np.int32)]

    def emit(b, x, w, t):
        y = b.emit(bnn.packed_conv2d(x, w, channels=ci, groups=groups, planes=2))
        q = b.emit(bnn.quantize(y, t, relax.const(np.int8(1)), lo=-1, step=1))
        return y, bnn.pack(q, channels=co, planes=2)

    params = [(a.shape, str(a.dtype)) for a in arrays]
    check_exact(group(emit, *params, constants=(1, 2)), arrays, tmp_path)


@pytest.mark.parametrize("rows", [1, 5])
def test_dense_layers_sum_two_planes(rows, tmp_path):
    rng = np.random.default_rng(6)
    arrays = [two_planes(rng, (rows,), 64, 129, 1, True), words(rng, (65,), 64, 129)]
    params = [(a.shape, "uint64") for a in arrays]
    check_exact(group(lambda b, x, w: bnn.packed_dense(x, w, channels=129, planes=2), *params, constants=(1,)), arrays, tmp_path)


@pytest.mark.parametrize("ci, kernel, bits", [(24, 1, 8), (260, 3, 64), (1000, 1, 64), (1028, 3, 32), (252, 2, 64), (2048, 3, 64), (7300, 3, 64)])
def test_lookups_hold_any_depth(ci, kernel, bits, tmp_path):
    """Chunks within a row of taps, a tap and a word, tails of words, and counts beyond 16 bits; all bits differ, so that counters are at their highest."""
    rng = np.random.default_rng(7)
    for differ in (True, False):
        x = words(rng, (1, 4, 5), bits, ci)
        w = words(rng, (33, kernel, kernel), bits, ci)
        if differ:
            x[...], w[...] = tail_mask(ci, 1, bits), 0
        function = group(lambda b, x, w: bnn.packed_conv2d(x, w, channels=ci), (x.shape, f"uint{bits}"), (w.shape, f"uint{bits}"), constants=(1,))
        check_exact(function, [x, w], tmp_path, V3 if runs_here(V3) else V2)


def shape_of(outputs=64, inputs=64, pixels=49):
    return BinaryShape("uint64", 1, outputs, inputs, (3, 3), pixels, 1)


def test_lookup_is_chosen_only_where_it_pays():
    assert lookup(shape_of(), V3) and lookup(shape_of(), V2)
    assert lookup(shape_of(), V4) is None, "this machine has a vector popcount"
    assert lookup(shape_of(outputs=10), V3) is None, "most lanes would be empty"
    assert lookup(shape_of(outputs=16, inputs=16), V3).contraction.lanes == 16, "most of the words would be empty"
    assert lookup(shape_of(pixels=1), V3), "weights of a single pixel that are near"
    assert lookup(shape_of(pixels=1, outputs=512, inputs=512), V3) is None, "every weight would be read once, from far away"


@pytest.mark.parametrize(
    "variant, outputs, pixels, present, absent",
    [
        (V4, 128, 4, ["vpopcntq"], ["vpshufb"]),
        (V3, 128, 4, ["vpshufb", "vmovmskps"], ["popcntq", "popcntl"]),
        (V3, 128, 1, ["vpshufb", "vmovmskps"], ["popcntq", "popcntl"]),
        (V2, 64, 7, ["pshufb"], ["popcntq", "popcntl"]),
    ],
)
def test_code_is_vectorised_and_calls_nothing_of_ours(variant, outputs, pixels, present, absent):
    function, _ = conv_bits(np.random.default_rng(0), 128, outputs, pixels + 2)
    code = assembly(function, variant)
    mnemonics = {line.split()[0] for line in code.splitlines() if line.startswith("\t") and not line.startswith("\t.")}
    calls = {line.split()[1] for line in code.splitlines() if line.startswith("\tcall")}
    assert calls <= {"memset@PLT"}, "LLVM makes it of a loop of zeros, and libc has it"
    assert all(any(m.startswith(name) for m in mnemonics) for name in present), sorted(mnemonics)
    assert not any(m.startswith(name) for m in mnemonics for name in absent), sorted(mnemonics)


def test_a_contraction_must_read_a_parameter():
    def emit(b, x, w):
        return bnn.packed_conv2d(b.emit(bnn.packed_logic(x, table=(1, 0), channels=64)), w, channels=64)

    with pytest.raises(InternalError, match="at most one anchor"):
        build_kernel(group(emit, ((1, 3, 3, 1), "uint64"), ((8, 3, 3, 1), "uint64"), constants=(1,)), V3)


def test_weights_of_one_element_are_inline(tmp_path):
    x = words(np.random.default_rng(8), (1, 3, 3), 64, 1)
    w = relax.const(np.ones((1, 1, 1, 1), np.uint64))
    check_exact(group(lambda b, x: bnn.packed_conv2d(x, w, channels=1), (x.shape, "uint64")), [x], tmp_path)


@pytest.mark.parametrize("channels, kernel", [(64, 3), (256, 3), (256, 1)])
def test_avx512_keeps_its_counts_in_registers(channels, kernel):
    """The loop of the popcounts stores nothing, and takes little more than the three instructions of each."""
    function, _ = conv_bits(np.random.default_rng(0), channels, channels, 16, kernel=kernel)
    blocks = re.split(r"^\.LBB\w+:.*$|^\tj\w+\t.*$", assembly(function, V4), flags=re.MULTILINE)
    main = [line for line in max(blocks, key=lambda block: block.count("vpopcntq")).splitlines() if re.match(r"\t[a-z]", line)]
    counted = sum("vpopcntq" in line for line in main)
    assert counted >= 14 and len(main) <= 3.6 * counted
    assert not any(re.match(r"\tvmov\S+\t%zmm.*\)$", line) for line in main)


@pytest.mark.parametrize("channels", [1, 31, 32])
def test_words_that_are_half_empty_are_counted_in_lanes_of_half_the_width(channels, tmp_path):
    layer, arrays = conv_bits(np.random.default_rng(channels), channels, 24, 7)
    check_exact(layer, arrays, tmp_path, WIDE)
    assert "vectors of 16 channels" in build_kernel(layer, WIDE).note
    assert "vectors of 8 channels" in build_kernel(conv_bits(np.random.default_rng(0), 33, 24, 7)[0], WIDE).note


def test_the_width_of_the_lanes_is_open_and_changes_no_bit(tmp_path):
    layer, arrays = conv_bits(np.random.default_rng(3), 20, 24, 7)
    decided = [{"formulation": "popcount", "popcount word": word} for word in ("uint32", "uint64")]
    assert len({build_kernel(layer, WIDE, each).note for each in decided}) == 2
    for each in decided:
        for one, other in zip(CompiledGroup(layer, tmp_path, WIDE, decided=each)(*arrays), meaning(layer, arrays), strict=True):
            np.testing.assert_array_equal(one, other)

"""Layers on small integers against their NumPy meaning, bit for bit, on the largest products there are."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from group_runner import assembly, check_exact, group
from tvm import relax
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.schedules import is_anchor
from bnncc.targets import find_target
from bnncc.targets.x86 import V2, V3, V4, runs_here
from tests.schedules.c_group import check_c, scalar

NEON = find_target("cortex-a76").variants[0]


@pytest.mark.parametrize(
    "ci, co, size, kernel, stride, dilation, groups",
    [
        (3, 64, 12, 5, 1, 1, 1),
        (16, 40, 9, 3, 1, 1, 1),
        (5, 7, 8, 3, 1, 2, 1),
        (1, 9, 7, 3, 2, 1, 1),
        (12, 18, 7, 3, 2, 1, 3),
        (10, 4, 7, 2, 1, 2, 2),
        (64, 32, 5, 1, 1, 1, 1),
        (2, 1, 5, 1, 1, 1, 1),
        (512, 40, 6, 3, 1, 1, 1),  # a block of weights is taken in parts
    ],
)
@pytest.mark.parametrize("variant", [V2, V3, V4], ids=lambda v: v.name)
def test_convolution_with_epilogue_is_exact(ci, co, size, kernel, stride, dilation, groups, variant, tmp_path):
    if not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}")
    rng = np.random.default_rng(ci + co)
    x = rng.integers(-128, 256, (2, size, size, ci)).astype(np.int16)
    w = rng.integers(-128, 128, (co, kernel, kernel, ci // groups)).astype(np.int8)
    thresholds = np.sort(rng.integers(-20000, 20000, (3, co)).astype(np.int32), axis=0)
    flip = rng.choice(np.array([-1, 1], np.int8), co)

    def emit(b, x, w, t, f):
        n = b.emit(bnn.conv2d(x, w, (stride, stride), dilation=(dilation, dilation), groups=groups))
        code = b.emit(bnn.quantize(n, t, f, 0, 1))
        return b.emit(R.astype(code, "int16")), n

    arrays = [x, w, thresholds, flip]
    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3)), arrays, tmp_path, variant)


@pytest.mark.parametrize("rows, depth, outputs", [(1, 490, 256), (1, 7, 3), (5, 33, 70), (1, 1, 1)])
@pytest.mark.parametrize("dtype, ends", [(np.int8, (-128, 127)), (np.int16, (-255, 255))], ids=["int8", "bipolar of eight bits"])
@pytest.mark.parametrize("variant", [V2, V3, V4], ids=lambda v: v.name)
def test_dense_layer_is_exact_at_the_ends_of_its_range(rows, depth, outputs, variant, dtype, ends, tmp_path):
    if not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}")
    rng = np.random.default_rng(depth)
    x = rng.choice(np.array([-128, 255], np.int16), (rows, depth))
    w = rng.choice(np.array(ends, dtype), (outputs, depth))
    emit = lambda b, x, w: bnn.dense(x, w)  # noqa: E731
    check_exact(group(emit, (x.shape, "int16"), (w.shape, str(w.dtype)), constants=(1,)), [x, w], tmp_path, variant)


@pytest.mark.parametrize("variant, instruction", [(V2, "pmaddwd"), (V3, "vpmaddwd"), (V4, "zmm")], ids=lambda v: getattr(v, "name", v))
def test_a_pair_of_activations_is_spread_by_one_load(variant, instruction):
    emit = lambda b, x, w: bnn.conv2d(x, w)  # noqa: E731
    text = assembly(group(emit, ((1, 8, 8, 64), "int16"), ((32, 3, 3, 64), "int8"), constants=(1,)), variant)
    assert "pmaddwd" in text and instruction in text
    if variant is V3:
        assert "vpbroadcastd" in text and "vpinsr" not in text


@pytest.mark.parametrize("dtype, code", [("int8", -128), ("uint8", 255), ("int8", 0)])
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_padding_of_codes_is_exact_and_may_widen(dtype, code, mode, tmp_path):
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(limits.min, limits.max + 1, (2, 5, 4, 11)).astype(dtype)
    emit = lambda b, x: R.astype(b.emit(bnn.pad(x, (1, 0, 2, 3), mode, code)), "int16")  # noqa: E731
    check_exact(group(emit, (x.shape, dtype)), [x], tmp_path)


@pytest.mark.parametrize(
    "dtype, constant, padding, expected", [("int16", True, 0, True), ("uint8", True, 0, True), ("int8", False, 0, False), ("int8", True, 1, False)]
)
def test_only_layers_with_constant_weights_and_without_padding_are_an_anchor(dtype, constant, padding, expected):
    x = relax.Var("x", relax.TensorType((1, 5, 5, 4), dtype))
    w = relax.const(np.ones((3, 2, 2, 4), np.int8)) if constant else relax.Var("w", relax.TensorType((3, 2, 2, 4), "int8"))
    assert is_anchor(relax.BlockBuilder().normalize(bnn.conv2d(x, w, padding=(padding,) * 4))) is expected


LAYERS = [(3, 10, 7, 3, 1, 1, 1), (5, 7, 8, 3, 1, 2, 1), (12, 18, 7, 3, 2, 1, 3), (1, 9, 7, 2, 2, 1, 1), (40, 33, 3, 1, 1, 1, 1)]


def small_layer(ci, co, size, kernel, stride, dilation, groups, dtype, weights, ends=(-128, 128)):
    """Return a convolution with thresholds and its arrays, at the ends of both ranges."""
    rng = np.random.default_rng(ci + co)
    limits = np.iinfo(dtype if dtype != "int16" else "uint8")
    x = rng.choice(np.array([limits.min, limits.max, 0, 1], dtype), (2, size, size, ci))
    w = rng.integers(*ends, (co, kernel, kernel, ci // groups)).astype(weights)
    thresholds = np.sort(rng.integers(-20000, 20000, (3, co)).astype(np.int32), axis=0)
    flip = rng.choice(np.array([-1, 1], np.int8), co)

    def emit(b, x, w, t, f):
        n = b.emit(bnn.conv2d(x, w, (stride, stride), dilation=(dilation, dilation), groups=groups))
        return b.emit(bnn.quantize(n, t, f, 0, 1)), n

    arrays = [x, w, thresholds, flip]
    return group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3)), arrays


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_bytes_are_read_as_they_are_where_no_pairs_are_multiplied(layer, dtype, tmp_path):
    kernel = check_c(*small_layer(*layer, dtype, np.int8), tmp_path, scalar())
    assert kernel.note.startswith(f"{dtype} by int8")


def test_a_row_of_bytes_meets_weights_beyond_a_byte(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (1, 33)).astype(np.uint8), rng.choice(np.array([-255, 255], np.int16), (13, 33))]
    emit = lambda b, x, w: bnn.dense(x, w)  # noqa: E731
    check_c(group(emit, ((1, 33), "uint8"), ((13, 33), "int16"), constants=(1,)), arrays, tmp_path, scalar())


@pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")), reason="qemu-user and gcc-aarch64-linux-gnu are not installed"
)
@pytest.mark.parametrize("layer", LAYERS)
def test_neon_is_exact(layer, tmp_path):
    check_exact(*small_layer(*layer, "int16", np.int8), tmp_path, NEON)


def test_neon_widens_in_the_multiplication():
    emit = lambda b, x, w: bnn.conv2d(x, w)  # noqa: E731
    text = assembly(group(emit, ((1, 8, 8, 64), "int16"), ((32, 3, 3, 64), "int8"), constants=(1,)), NEON)
    assert text.count("smlal") >= 16 and "mul\t" not in text

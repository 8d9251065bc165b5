"""Layers of k-bit codes and weights: planes, their kernels and plain integer sums are the same, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from covering import pairs
from group_runner import CompiledGroup, check_exact, group
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.conv2d import Conv2dAttrs, conv2d_reference, dense_reference
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.ops.plane_conv2d import PlaneConv2dAttrs, PlaneDenseAttrs, plane_conv2d_reference, plane_dense_reference
from bnncc.passes.bit_planes import code_planes, weight_planes
from bnncc.passes.code_range import CodeRange
from bnncc.targets.x86 import V2, V3, V4, runs_here

UNSIGNED = [CodeRange(0, 2**k - 1, 1) for k in range(1, 9)]
SIGNED = [CodeRange(-(2 ** (k - 1)), 2 ** (k - 1) - 1, 1) for k in range(2, 9)]
ODD = [CodeRange(1 - 2**k, 2**k - 1, 2) for k in (1, 2, 3)] + [CodeRange(-1, 1, 1)]
WEIGHTS = {
    "signs": [-1, 1], "ternary": [-1, 0, 1], "odd": [-3, -1, 1, 3], "3 bits": list(range(-4, 4)), "5 bits": list(range(-15, 16)),
    "8 bits": list(range(-128, 128)), "scaled": [-6, 0, 6], "unsigned": [0, 1, 2, 3], "zeros": [0],
}  # fmt: skip


def drawn(codes: CodeRange, kind: str, x_shape, w_shape):
    rng = np.random.default_rng(codes.hi + len(WEIGHTS[kind]))
    x = rng.choice(np.arange(codes.lo, codes.hi + 1, codes.step), x_shape)
    return x.astype(np.uint8 if codes.hi > 127 else np.int8), rng.choice(np.array(WEIGHTS[kind]), w_shape).astype(np.int8)


def bias_of(codes, planes, w):
    flat = w.reshape(len(w), -1).astype(np.int64)
    return (flat.shape[1] * sum(codes.scales) * sum(planes.scales) // 2 + codes.offset * flat.sum(1)).astype(np.int32)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_planes_of_weights_add_up(kind):
    w = np.array(WEIGHTS[kind], np.int8)
    planes = weight_planes(w)
    np.testing.assert_array_equal(np.tensordot(planes.scales, planes.signs.astype(int), 1), 2 * w.astype(int))
    assert set(np.unique(planes.signs)) <= {-1, 1}
    assert len(planes.scales) == {"signs": 1, "ternary": 2, "odd": 2, "3 bits": 4, "5 bits": 6, "8 bits": 9, "scaled": 2, "unsigned": 4, "zeros": 2}[kind]


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("codes", UNSIGNED + SIGNED + ODD, ids=lambda c: f"{c.lo}..{c.hi}")
def test_sums_of_planes_are_sums_of_codes(codes, kind):
    x, w = drawn(codes, kind, (1, 5, 4, 6), (4, 2, 3, 3))
    p, q = code_planes(codes), weight_planes(w)
    words = pack_reference(PackAttrs(6, 2, 32, p.count, p.lo, p.step), x)
    filters = pack_reference(PackAttrs(3, 1, 32), q.signs.reshape(-1, *w.shape[1:]))
    attrs = PlaneConv2dAttrs(6, (2, 1), (1, 1), 2, p.scales, q.scales)
    expected = conv2d_reference(Conv2dAttrs((2, 1), (0, 0, 0, 0), (1, 1), 2, 0), x, w)
    np.testing.assert_array_equal(plane_conv2d_reference(attrs, words, filters, bias_of(p, q, w)), expected)


@pytest.mark.parametrize("codes", UNSIGNED[:4] + SIGNED[:2] + ODD, ids=lambda c: f"{c.lo}..{c.hi}")
@pytest.mark.parametrize("kind", ["signs", "ternary", "odd", "3 bits"])
def test_dense_sums_of_planes_are_sums_of_codes(codes, kind):
    x, w = drawn(codes, kind, (3, 70), (5, 70))
    p, q = code_planes(codes), weight_planes(w)
    words = pack_reference(PackAttrs(70, 1, 64, p.count, p.lo, p.step), x)
    filters = pack_reference(PackAttrs(70, 1, 64), q.signs.reshape(-1, 70))
    found = plane_dense_reference(PlaneDenseAttrs(70, p.scales, q.scales), words, filters, bias_of(p, q, w))
    np.testing.assert_array_equal(found, dense_reference(None, x, w))


SHAPES = [(16, 40, 9, 3, 1, 1, 1), (5, 7, 8, 3, 1, 2, 1), (66, 66, 7, 3, 2, 1, 3), (64, 256, 14, 3, 1, 1, 1), (65, 3, 5, 1, 1, 1, 1)]
WHAT = [(UNSIGNED[1], "signs"), (ODD[0], "ternary"), (ODD[1], "odd"), (UNSIGNED[7], "signs"), (SIGNED[0], "3 bits")]


@pytest.mark.parametrize(
    "ci, co, size, kernel, stride, dilation, groups, codes, kind, variant",
    [*pairs(SHAPES, WHAT, [V2, V3]), *pairs(SHAPES, WHAT, [V4])],
    ids=lambda v: getattr(v, "name", None) or (f"{v.lo}..{v.hi}" if hasattr(v, "lo") else str(v)),
)
def test_convolution_with_planes_out_is_exact(ci, co, size, kernel, stride, dilation, groups, codes, kind, variant, tmp_path):
    if not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}")
    x, w = drawn(codes, kind, (1, size, size, ci), (co, kernel, kernel, ci // groups))
    p, q = code_planes(codes), weight_planes(w)
    words = pack_reference(PackAttrs(ci, groups, 64, p.count, p.lo, p.step), x)
    filters = pack_reference(PackAttrs(ci // groups, 1, 64), q.signs.reshape(-1, *w.shape[1:]))
    rng = np.random.default_rng(ci)
    thresholds = np.sort(rng.integers(-200, 200, (3, co)).astype(np.int32), axis=0)
    flip = rng.choice(np.array([-1, 1], np.int8), co)
    scales = {"input_scales": p.scales, "weight_scales": q.scales}

    def emit(b, x, w, bias, t, f):
        n = b.emit(bnn.plane_conv2d(x, w, bias, channels=ci, strides=(stride, stride), dilation=(dilation, dilation), groups=groups, **scales))
        code = b.emit(bnn.quantize(n, t, f, -3, 2))
        return b.emit(bnn.pack(code, co, 1, 64, 2, -3, 2)), n

    arrays = [words, filters, bias_of(p, q, w), thresholds, flip]
    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3, 4)), arrays, tmp_path, variant)


@pytest.mark.parametrize("rows, inputs, outputs", [(1, 70, 40), (1, 300, 5), (4, 64, 33)])
@pytest.mark.parametrize("codes, kind", [(UNSIGNED[1], "signs"), (ODD[0], "ternary"), (SIGNED[1], "odd"), (UNSIGNED[7], "3 bits")])
@pytest.mark.parametrize("variant", [V2, V3, V4], ids=lambda v: v.name)
def test_a_compiled_dense_layer_on_planes_gives_the_sums_of_integers(rows, inputs, outputs, codes, kind, variant, tmp_path):
    if not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}")
    x, w = drawn(codes, kind, (rows, inputs), (outputs, inputs))
    p, q = code_planes(codes), weight_planes(w)
    words = pack_reference(PackAttrs(inputs, 1, 64, p.count, p.lo, p.step), x)
    arrays = [words, pack_reference(PackAttrs(inputs, 1, 64), q.signs.reshape(-1, inputs)), bias_of(p, q, w)]

    def emit(b, x, w, bias):
        return bnn.plane_dense(x, w, bias, channels=inputs, input_scales=p.scales, weight_scales=q.scales)

    function = group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2))
    (found,) = CompiledGroup(function, tmp_path, variant)(*arrays)
    np.testing.assert_array_equal(found, x.astype(np.int64) @ w.astype(np.int64).T)


@pytest.mark.parametrize("dtype, lo, step, planes", [("int8", -3, 2, 2), ("uint8", 0, 1, 8), ("int8", -128, 1, 8), ("int8", -1, 1, 2)])
@pytest.mark.parametrize("channels", [1, 63, 70])
def test_codes_are_packed_into_planes(dtype, lo, step, planes, channels, tmp_path):
    x = np.random.default_rng(planes).choice(np.arange(lo, lo + (step << planes), step), (2, 3, channels)).astype(dtype)

    def emit(b, x):
        return bnn.pack(b.emit(relax.op.astype(b.emit(relax.op.astype(x, "float32")), dtype)), channels, 1, 64, planes, lo, step)

    check_exact(group(emit, (x.shape, dtype)), [x], tmp_path)

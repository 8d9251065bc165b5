"""Groups of Relax's own operators as plain loops, and traces of schedules on them."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from group_runner import CompiledGroup, group, meaning
from tvm import relax, s_tir
from tvm.script import relax as R

from bnncc.errors import InternalError
from bnncc.ops import bnn
from bnncc.schedules import build_kernel
from bnncc.schedules.traced import TRACE, plain_loops
from bnncc.targets.x86 import native_variant
from bnncc.tuning.traces import trace_text


def float_layer() -> relax.Function:
    """A convolution, a bias, a constant of one element, and a result that leaves twice."""

    def emit(b, x, w, bias):
        y = b.emit(R.add(b.emit(R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO")), bias))
        return R.multiply(y, relax.const(0.5, "float32")), R.nn.relu(y)

    return group(emit, ((1, 7, 9, 6), "float32"), ((3, 3, 6, 24), "float32"), ((24,), "float32"), constants=(1, 2))


def tiled(function: relax.Function, *inner: int) -> str:
    """Return the trace that moves loops to the inside after they are cut: `inner` so many steps of rows and columns of taps, and inputs, 1 not at all."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": plain_loops(function)}))
    block = schedule.get_sblock("conv2d_nhwc")
    _, y, x, channel, *reduced = schedule.get_loops(block)
    outer, last = schedule.split(channel, [None, 8])
    parts = [schedule.split(loop, [None, count]) for loop, count in zip(reduced, inner, strict=True)]
    schedule.reorder(y, x, outer, *(part[0] for part in parts), *(part[1] for part in parts), last)
    schedule.vectorize(last)
    return trace_text(schedule.trace)


@pytest.mark.parametrize("inner", [(1, 1, 2), (1, 3, 6), (3, 3, 6), (1, 1, 1)])
def test_a_trace_that_keeps_the_order_of_sums_gives_the_bits_of_the_generated_kernel(inner, tmp_path):
    function = float_layer()
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(tuple(int(d) for d in p.ty.shape.values)).astype(np.float32) for p in function.params]
    traced = CompiledGroup(function, tmp_path, decided={TRACE: tiled(function, *inner)})
    assert traced.kernel.note == "scheduled by MetaSchedule"
    for found, right in zip(traced(*arrays), CompiledGroup(function, tmp_path)(*arrays), strict=True):
        assert found.tobytes() == right.tobytes()


@pytest.mark.parametrize("inner", [(3, 1, 2), (1, 3, 2), (3, 1, 1)])
def test_a_trace_that_changes_the_order_of_sums_is_refused(inner):
    function = float_layer()
    with pytest.raises(InternalError, match="another order"):
        build_kernel(function, native_variant(), {TRACE: tiled(function, *inner)})


def test_a_trace_of_other_loops_is_refused():
    function = float_layer()
    other = tiled(function, 1, 1, 2).replace("conv2d_nhwc", "conv1d")
    with pytest.raises(InternalError, match="does not fit"):
        build_kernel(function, native_variant(), {TRACE: other})


@pytest.mark.parametrize(
    ("thresholds", "packing"),
    [
        (1, {"channels": 64}),
        (1, {"channels": 70}),
        (1, {"channels": 70, "groups": 2, "word_bits": 32}),
        (2, {"channels": 40, "planes": 2}),
        (7, {"channels": 40, "planes": 3, "step": 2, "lo": -7}),
    ],
    ids=str,
)
def test_thresholds_and_packing_as_plain_loops_give_what_they_mean(thresholds, packing, tmp_path):
    channels, step = packing["channels"], packing.get("step") or 3 - thresholds

    def emit(b, x, t, flip):
        return bnn.pack(b.emit(bnn.quantize(b.emit(R.nn.relu(x)), t, flip, lo=packing.get("lo", -1), step=step)), **packing)

    types = ((1, 3, 5, channels), "float32"), ((thresholds, channels), "float32"), ((channels,), "int8")
    function = group(emit, *types, constants=(1, 2))
    rng = np.random.default_rng(channels)
    flip = rng.choice(np.array([-1, 1], np.int8), channels)
    arrays = [rng.integers(-4, 4, types[0][0]).astype(np.float32), rng.integers(-2, 3, types[1][0]).astype(np.float32), flip]  # ties among them
    nothing = trace_text(s_tir.Schedule(tvm.IRModule({"main": plain_loops(function)})).trace)
    for found, right in zip(CompiledGroup(function, tmp_path, decided={TRACE: nothing})(*arrays), meaning(function, arrays), strict=True):
        np.testing.assert_array_equal(found, right)


def quantized(thresholds: int) -> relax.Function:
    """A convolution and its levels."""

    def emit(b, x, w, t, flip):
        return bnn.quantize(b.emit(R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO")), t, flip)

    types = ((1, 5, 5, 8), "float32"), ((3, 3, 8, 64), "float32"), ((thresholds, 64), "float32"), ((64,), "int8")
    return group(emit, *types, constants=(1, 2, 3))


def test_what_holds_other_operators_of_ours_or_many_thresholds_has_no_plain_loops():
    def emit(b, x):
        return R.astype(b.emit(bnn.unpack(x, channels=64)), "float32")

    assert plain_loops(group(emit, ((1, 5, 5, 1), "uint64"))) is None
    assert plain_loops(quantized(16)) is not None and plain_loops(quantized(17)) is None

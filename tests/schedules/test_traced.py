"""Groups of Relax's own operators as plain loops, and traces of schedules on them."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from group_runner import CompiledGroup, group
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


def test_what_holds_operators_of_ours_has_no_plain_loops():
    def emit(b, x, w, thresholds, flip):
        return bnn.quantize(b.emit(R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO")), thresholds, flip)

    types = ((1, 5, 5, 8), "float32"), ((3, 3, 8, 64), "float32"), ((1, 64), "float32"), ((64,), "int8")
    assert plain_loops(group(emit, *types, constants=(1, 2, 3))) is None

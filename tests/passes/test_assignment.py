"""Layouts by measured times: what a kernel of its own takes against the kernel that it would join."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.passes.assignment import assign, differing_groups
from bnncc.passes.context import PassContext
from bnncc.passes.fuse_epilogue import fuse_apart, fuse_epilogue
from bnncc.passes.rewrite import op_name
from bnncc.passes.step_work import kernel_calls


def network() -> tvm.IRModule:
    """Two padded convolutions of different sizes."""

    @I.ir_module
    class Network:
        @R.function
        def main(x: R.Tensor((1, 8, 8, 8), "float32"), v: R.Tensor((3, 3, 8, 16), "float32"), w: R.Tensor((3, 3, 16, 8), "float32")):
            with R.dataflow():
                a = R.nn.pad(x, (0, 0, 1, 1, 1, 1, 0, 0))
                y = R.nn.conv2d(a, v, data_layout="NHWC", kernel_layout="HWIO")
                b = R.nn.pad(y, (0, 0, 1, 1, 1, 1, 0, 0))
                z = R.nn.conv2d(b, w, data_layout="NHWC", kernel_layout="HWIO")
                R.output(z)
            return z

    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape).astype("float32") for name, shape in [("v", (3, 3, 8, 16)), ("w", (3, 3, 16, 8))]}
    return relax.transform.BindParams("main", weights)(Network)


def kernels(module: tvm.IRModule) -> list[list[str]]:
    """Return the operators of each kernel, in order."""
    calls = [module[b.value.op] for b, _ in kernel_calls(module)]
    return [[op_name(b.value).rpartition(".")[2] for b in group.body.blocks[0].bindings] for group in calls]


def times(padded: float, plain: float, pad: float):
    """Return a measurer by what stands in a group."""

    def measured(group):
        names = [op_name(b.value).rpartition(".")[2] for b in group.body.blocks[0].bindings]
        value = {("pad", "conv2d"): padded, ("conv2d",): plain, ("pad",): pad}[tuple(names)]
        return {("here", "seconds"): value}

    return measured


JOINED = [["pad", "conv2d"], ["pad", "conv2d"]]
APART = [["pad"], ["conv2d"], ["pad"], ["conv2d"]]


def test_without_measured_times_pads_join_the_convolutions():
    context = PassContext()
    assert kernels(fuse_epilogue(network(), context)) == JOINED and context.assignment == ()


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (times(10, 5, 4), APART),  # 9 for 10
        (times(10, 6, 4), JOINED),
        (times(10, 5.8, 4), JOINED),  # 0.98 is within what such a comparison may err by
        (lambda group: {}, JOINED),
        (lambda group: {} if len(group.body.blocks[0].bindings) == 1 else {("here", "seconds"): 10.0}, JOINED),  # only one way was measured
    ],
)
def test_the_sums_of_measured_times_decide(measured, expected):
    context = PassContext(measured=measured)
    assert kernels(fuse_epilogue(network(), context)) == expected
    assert len(context.assignment) == (2 if expected is APART else 0)


def test_each_place_is_decided_by_its_own_kernels():
    def measured(group):
        small = any(int(d) == 16 for d in group.params[0].ty.shape.values)
        return times(10, 5, 4 if small else 6)(group)

    context = PassContext(measured=measured)
    assert kernels(fuse_epilogue(network(), context)) == [["pad", "conv2d"], ["pad"], ["conv2d"]]
    assert context.assignment == ("image of z: apart, as measured, 0.90 of the time of the kernel that it would join",)


def test_times_of_two_machines_are_not_added_up():
    def measured(group):
        machine = "here" if len(group.body.blocks[0].bindings) == 1 else "there"
        return {(machine, "seconds"): 1e-9 if machine == "here" else 1.0}

    assert kernels(assign(lambda apart: fuse_apart(network(), PassContext(), apart), measured)[0]) == JOINED


def test_two_layouts_differ_in_the_kernels_that_one_has_and_the_other_has_not():
    module, context = network(), PassContext()
    joined, places = fuse_apart(module, context, frozenset())
    separate, _ = fuse_apart(module, context, frozenset(places[:1]))
    gone, new = differing_groups(joined, separate)
    assert places == ("image of y", "image of z") and len(gone) == 1 and len(new) == 2

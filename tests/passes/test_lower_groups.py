from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.passes.context import PassContext
from bnncc.passes.fuse_epilogue import fuse_epilogue
from bnncc.passes.lower_groups import lower_groups
from bnncc.passes.rewrite import Graph, const
from bnncc.passes.verify import verify_phase
from bnncc.targets import find_target

from .programs import module, operators

(V3,) = find_target("x86-64-v3").variants
rng = np.random.default_rng(0)


def lowered(build, *params):
    """Return the lowered module and its kernels."""
    mod, notes = lower_groups(fuse_epilogue(module(build, *params), PassContext()), V3)
    verify_phase(mod, "lower")
    kernels = {g.name_hint: f for g, f in mod.functions_items() if isinstance(f, tvm.tirx.PrimFunc)}
    assert set(notes) == set(kernels) and all(notes.values())
    return mod, kernels


def layer(words, count=40, channels=40, strides=(1, 1)):
    """A packed layer on `channels` channels whose codes are packed again."""
    weights = const(rng.integers(0, 1 << 40, (count, 1, 1, 1)).astype(np.uint64))
    thresholds = const(rng.integers(-9, 9, (1, count)).astype(np.int32))
    n = bnn.packed_conv2d(words, weights, channels=channels, strides=strides)
    return bnn.pack(bnn.quantize(n, thresholds, const(np.int8(1))), count)


WORDS = ((1, 4, 4, 1), "uint64")


def test_every_group_is_a_call_of_a_kernel():
    mod, kernels = lowered(lambda x: layer(x), WORDS)
    assert operators(mod) == ["call_tir"] and len(kernels) == 1


def test_equal_groups_share_a_kernel_whatever_their_constants():
    mod, kernels = lowered(lambda x: layer(layer(layer(x))), WORDS)
    assert operators(mod) == ["call_tir"] * 3 and len(kernels) == 1
    weights = [b.value.args[1].fields[1].value.numpy() for b in Graph(mod).bindings]
    assert not np.array_equal(weights[0], weights[1])


@pytest.mark.parametrize("other", [{"count": 33}, {"strides": (2, 2)}])
def test_groups_that_differ_have_kernels_of_their_own(other):
    _, kernels = lowered(lambda x: layer(layer(x, **other)), WORDS)
    assert len(kernels) == 2


def test_how_many_inputs_there_are_is_in_the_limits_and_not_in_the_kernel():
    mod, kernels = lowered(lambda x: layer(layer(x, channels=39)), WORDS)
    assert len(kernels) == 1 and operators(mod) == ["call_tir"] * 2


def test_scalars_are_part_of_a_kernel():
    times = lambda x, v: op.reshape(op.multiply(x, const(np.float32(v))), (4, 4))  # noqa: E731
    assert len(lowered(lambda x: times(times(x, 2), 2), ((4, 4), "float32"))[1]) == 1
    assert len(lowered(lambda x: times(times(x, 2), 3), ((4, 4), "float32"))[1]) == 2


def test_several_results_come_out_of_one_call():
    def build(x, y):
        total = relax.BlockBuilder.current().emit(op.add(x, y))
        return total, bnn.pack(bnn.quantize(total, const(np.zeros(1, np.float32)), const(np.int8(1))), 40)

    mod, _ = lowered(build, ((3, 40), "float32"), ((3, 40), "float32"))
    assert operators(mod) == ["call_tir"]
    assert isinstance(Graph(mod).bindings[0].var.ty, relax.TupleType)


def test_weights_move_into_the_order_that_the_kernel_reads():
    weights = rng.standard_normal((3, 3, 8, 40)).astype(np.float32)
    mod, kernels = lowered(lambda x: op.nn.conv2d(x, const(weights), data_layout="NHWC", kernel_layout="HWIO"), ((1, 6, 6, 8), "float32"))
    moved = Graph(mod).bindings[0].value.args[1].fields[1].value.numpy()
    (kernel,) = kernels.values()
    assert moved.size == np.prod([int(d) for d in kernel.params[1].ty.shape])
    np.testing.assert_array_equal(np.sort(moved[moved != 0]), np.sort(weights.ravel()))
    assert not np.array_equal(moved.ravel(), weights.ravel())


def test_reshapes_stay():
    mod, _ = lowered(lambda x: op.nn.relu(op.reshape(op.negative(x), (4, 4))), ((2, 8), "float32"))
    assert operators(mod) == ["call_tir", "reshape", "call_tir"]


def test_kernels_are_the_same_every_time():
    once, again = (lowered(lambda x: layer(x), WORDS)[1] for _ in range(2))
    for name, kernel in once.items():
        tvm.ir.assert_structural_equal(kernel, again[name])

"""What a group must not be, and what is left to Relax's own legalization."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from group_runner import CompiledGroup, check_exact, group, meaning, words
from tvm import relax
from tvm.script import relax as R

from bnncc.errors import InternalError, UnsupportedOperator
from bnncc.ops import bnn
from bnncc.schedules import ANCHOR_OPS, EPILOGUE_OPS, build_kernel
from bnncc.schedules.channels import PackedLayout, plan_channels, vector_cuts
from bnncc.schedules.elementwise import apply
from bnncc.schedules.group import Tensor
from bnncc.targets.x86 import V2, V3, V4

IMAGE = ((1, 4, 4, 8), "float32")


def rejected(emit, *params, match, constants=()):
    with pytest.raises(InternalError, match=match):
        build_kernel(group(emit, *params, constants=constants), V3)


def test_two_anchors_are_rejected():
    rejected(lambda b, x: R.nn.pad(b.emit(R.nn.max_pool2d(x, layout="NHWC")), (0, 0, 1, 1, 1, 1, 0, 0)), IMAGE, match="at most one anchor")


def test_a_foreign_operator_must_be_alone():
    rejected(lambda b, x: R.nn.relu(b.emit(R.nn.softmax(x))), IMAGE, match="must be alone")


def test_outputs_of_different_shapes_are_rejected():
    def emit(b, x, s):
        return R.nn.relu(x), R.nn.relu(s)

    rejected(emit, IMAGE, ((8,), "float32"), match="one shape")


def test_a_contraction_cannot_be_broadcast():
    def emit(b, x, w, y):
        return R.add(b.emit(R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO")), y)

    rejected(emit, ((1, 1, 1, 8), "float32"), ((1, 1, 8, 8), "float32"), IMAGE, match="have shape", constants=(1,))


def test_a_contraction_reads_a_parameter():
    def emit(b, x, w):
        return R.nn.conv2d(b.emit(R.nn.relu(x)), w, data_layout="NHWC", kernel_layout="HWIO")

    rejected(emit, IMAGE, ((1, 1, 8, 8), "float32"), match="must be a parameter", constants=(1,))


def test_a_pack_is_only_returned():
    def emit(b, x):
        return bnn.packed_logic(b.emit(bnn.pack(x, channels=8)), table=(1, 0), channels=8)

    rejected(emit, ((1, 4, 4, 8), "int8"), match="cannot stand here")


def test_nothing_follows_a_gather():
    def emit(b, i, x):
        y = b.emit(bnn.gather_channels(i, x, in_channels=(8,), in_groups=(1,), out_channels=8))
        return bnn.unpack(y, channels=8)

    rejected(emit, ((8, 2), "int32"), ((1, 2, 2, 1), "uint64"), match="no operator may follow", constants=(0,))


def test_a_gather_reads_parameters():
    def emit(b, i, x):
        return bnn.gather_channels(i, b.emit(bnn.pack(x, channels=8)), in_channels=(8,), in_groups=(1,), out_channels=8)

    rejected(emit, ((8, 2), "int32"), ((1, 2, 2, 8), "int8"), match="must be a parameter", constants=(0,))


@pytest.mark.parametrize("op", [R.nn.max_pool2d, R.nn.avg_pool2d])
def test_pools_with_an_epilogue_are_nhwc(op):
    rejected(lambda b, x: R.nn.relu(b.emit(op(x, (2, 2), layout="NCHW"))), IMAGE, match="kernels take NHWC")


def test_a_mean_with_an_epilogue_is_over_the_image():
    rejected(lambda b, x: R.nn.relu(b.emit(R.mean(x, axis=[3], keepdims=True))), IMAGE, match="height and width")


def test_packed_padding_has_three_modes():
    rejected(lambda b, x, f: bnn.packed_pad(x, f, (1, 1, 1, 1), "wrap"), ((1, 3, 3, 1), "uint64"), ((1,), "uint64"), match="mode 'wrap'")


def test_large_constants_are_parameters():
    rejected(lambda b, x: R.add(x, relax.const(np.ones(8, np.float32))), IMAGE, match="only scalars are inline")


def test_a_group_is_one_block_of_calls():
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    with pytest.raises(InternalError, match="found 0 blocks"):
        build_kernel(relax.Function([x], relax.SeqExpr([], x), x.ty), V3)


def test_only_elementwise_operators_are_applied():
    with pytest.raises(InternalError, match="is not elementwise"):
        apply(Tensor("x", (1,), "float32", "relax.nn.softmax"), 1, [])


def test_every_operator_offered_exists_in_relax():
    for name in ANCHOR_OPS | EPILOGUE_OPS:
        assert tvm.ir.Op.get(name).name == name
    assert not ANCHOR_OPS & EPILOGUE_OPS


@pytest.mark.parametrize(
    "emit, shapes",
    [
        (lambda b, x: R.permute_dims(x, [0, 3, 1, 2]), [(1, 4, 4, 8)]),
        (lambda b, x: R.nn.softmax(x), [(3, 10)]),
        (lambda b, x, y: R.concat([x, y], axis=3), [(1, 2, 2, 3), (1, 2, 2, 5)]),
        (lambda b, x: R.strided_slice(x, axes=[1], begin=[1], end=[3]), [(1, 4, 4, 8)]),
        (lambda b, x: R.nn.pad(x, (0, 0, 0, 0, 0, 0, 1, 2)), [(1, 4, 4, 8)]),
        (lambda b, x: R.mean(x, axis=[2]), [(2, 3, 4)]),
        (lambda b, x: R.nn.max_pool2d(x, (2, 2), (2, 2)), [(1, 3, 4, 4)]),
        (lambda b, x, y: R.matmul(x, y), [(2, 3, 4), (2, 4, 5)]),
    ],
)
def test_other_operators_are_legalized_by_relax(emit, shapes, tmp_path):
    arrays = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)]
    function = group(emit, *((shape, "float32") for shape in shapes))
    (got,) = CompiledGroup(function, tmp_path)(*arrays)
    np.testing.assert_allclose(got, meaning(function, arrays)[0], rtol=1e-5, atol=1e-6)


def test_a_tensor_may_be_read_twice_by_a_legalized_operator(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    function = group(lambda b, v: R.concat([v, v], axis=1), (x.shape, "float32"))
    np.testing.assert_array_equal(CompiledGroup(function, tmp_path)(x)[0], np.concatenate([x, x], axis=1))


def test_an_operator_without_legalization_is_rejected():
    rejected(lambda b, x, w: bnn.dense(x, w), ((2, 4), "int8"), ((3, 4), "int8"), match="it became relax.bnn.dense")


def test_every_parameter_is_read_by_a_legalized_operator():
    rejected(lambda b, x, y: R.nn.softmax(x), ((2, 4), "float32"), ((2, 4), "float32"), match="does not read every parameter")


def test_a_matrix_product_of_two_activations_is_no_contraction_of_ours():
    kernel = build_kernel(group(lambda b, x, y: R.matmul(x, y), ((2, 3), "float32"), ((3, 4), "float32")), V3)
    assert "legalization" in kernel.note


@pytest.mark.parametrize("variant", [V2, V3, V4], ids=lambda v: v.name)
def test_the_note_tells_formulation_and_tile(variant):
    function = group(lambda b, x, w: bnn.packed_conv2d(x, w, channels=64), ((1, 6, 6, 1), "uint64"), ((64, 3, 3, 1), "uint64"), constants=(1,))
    kernel = build_kernel(function, variant)
    assert kernel.note.startswith("popcount" if variant is V4 else "lookup") and "tile" in kernel.note
    assert set(kernel.relayout) == {1}


def test_vectors_are_powers_of_two_within_their_bounds():
    assert vector_cuts([33, 64], 8) == ((0, 8), (8, 8), (16, 8), (24, 8), (32, 1), (33, 8), (41, 8), (49, 8), (57, 4), (61, 2), (63, 1))


@pytest.mark.parametrize("channels", [1, 33, 64, 129, 330])
@pytest.mark.parametrize("layouts", [[], [(1, 64)], [(1, 8), (1, 64)], [(3, 16)], [(3, 16), (1, 64)]])
def test_runs_cover_every_channel_once_and_cross_no_word(channels, layouts):
    channels *= 3
    packed = [PackedLayout(channels, groups, bits) for groups, bits in layouts]
    seen = []
    for run in plan_channels(channels, packed, 8):
        for block in range(run.count):
            for offset, lanes in run.cuts:
                first = run.start + block * run.size + offset
                seen += range(first, first + lanes)
                assert all(layout.locate(first)[0] == layout.locate(first + lanes - 1)[0] for layout in packed)
    assert seen == list(range(channels))


def test_a_pack_may_follow_an_unpack_of_other_words(tmp_path):
    x = words(np.random.default_rng(0), (2, 2), 16, 66, 3)

    def emit(b, v):
        return bnn.pack(b.emit(bnn.unpack(v, channels=66, groups=3, word_bits=16)), channels=66)

    check_exact(group(emit, (x.shape, "uint16")), [x], tmp_path)


def test_an_operator_of_several_tensors_is_told():
    function = group(lambda b, x: relax.TupleGetItem(b.emit(relax.op.topk(x, k=2, axis=-1)), 0), ((1, 8), "float32"))
    with pytest.raises(UnsupportedOperator, match="topk gives several tensors at once"):
        build_kernel(function, V2)

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.passes.context import PassContext
from bnncc.passes.fuse_epilogue import fuse_epilogue
from bnncc.passes.lower_dequantize import lower_dequantize
from bnncc.passes.rewrite import Graph, const, op_name
from bnncc.passes.verify import verify_phase

from .programs import module, operators, rewritten, signs

rng = np.random.default_rng(0)
WORDS = ((2, 5, 5, 1), "uint64")
MAP = ((2, 5, 5, 40), "float32")
FILTERS = const(rng.integers(0, 1 << 33, (40, 1, 1, 1)).astype(np.uint64))
GAIN = const(rng.standard_normal(40).astype(np.float32))
emit = lambda expr: relax.BlockBuilder.current().emit(expr)  # noqa: E731


def conv(words):
    return bnn.packed_conv2d(words, FILTERS, channels=33)


def scaled(n):
    return op.multiply(op.astype(n, "float32"), GAIN)


def packed(y):
    return bnn.pack(bnn.quantize(y, const(np.zeros(1, np.float32)), const(np.int8(1))), 40)


def groups(mod: tvm.IRModule) -> list[list[str]]:
    """Return the operators of each function that main calls, in order of the calls."""
    found = []
    for b in Graph(mod).bindings:
        if isinstance(b.value, relax.Call) and isinstance(b.value.op, tvm.ir.GlobalVar):
            found.append([op_name(inner.value).removeprefix("relax.") for inner in Graph(mod, b.value.op.name_hint).bindings])
    return found


def fused(build, *params) -> tvm.IRModule:
    """Fuse, compare, and check what every group promises."""
    after = rewritten(fuse_epilogue, module(build, *params))
    verify_phase(after, "fuse")
    for b in Graph(after).bindings:
        if isinstance(b.value, relax.Call) and isinstance(b.value.op, tvm.ir.GlobalVar):
            function = after[b.value.op]
            assert int(function.attrs["Primitive"]) == 1
            constants = [i for i, a in enumerate(b.value.args) if not isinstance(a, relax.Var)]
            assert [int(i) for i in function.attrs["bnncc.const_params"]] == constants
    return after


def test_scale_threshold_and_packing_follow_a_convolution_in_its_group():
    after = fused(lambda w: packed(scaled(conv(w))), WORDS)
    assert groups(after) == [["bnn.packed_conv2d", "astype", "multiply", "bnn.quantize", "bnn.pack"]]
    assert operators(after) == ["group"]


def test_a_residual_sum_leaves_its_group_as_numbers_and_as_bits():
    def build(w, shortcut):
        total = emit(op.add(scaled(conv(w)), shortcut))
        return packed(total), op.nn.max_pool2d(total, (2, 2), (2, 2), layout="NHWC")

    after = fused(build, WORDS, MAP)
    assert groups(after) == [["bnn.packed_conv2d", "astype", "multiply", "add", "bnn.quantize", "bnn.pack"], ["nn.max_pool2d"]]
    (first, *_) = (b for b in Graph(after).bindings)
    assert isinstance(first.var.ty, relax.TupleType) and len(first.var.ty.fields) == 2


def test_every_anchor_has_a_group_of_its_own():
    second = const(rng.integers(0, 1 << 40, (3, 1, 1, 1)).astype(np.uint64))
    after = fused(lambda w: bnn.packed_conv2d(packed(scaled(conv(w))), second, channels=40), WORDS)
    assert [g[0] for g in groups(after)] == ["bnn.packed_conv2d"] * 2


def test_a_sum_of_two_convolutions_joins_the_later_one():
    after = fused(lambda w, v: op.add(scaled(conv(w)), scaled(conv(v))), WORDS, WORDS)
    assert [len(g) for g in groups(after)] == [3, 4]


def test_an_operator_of_another_shape_begins_a_group():
    after = fused(lambda x: op.add(op.multiply(x, GAIN), const(np.zeros((2, 2, 5, 5, 40), np.float32))), MAP)
    assert groups(after) == [["multiply"], ["add"]]


def test_elementwise_operators_without_anchor_are_a_group():
    assert groups(fused(lambda x: packed(op.nn.relu(op.multiply(x, GAIN))), MAP)) == [["multiply", "nn.relu", "bnn.quantize", "bnn.pack"]]


def test_nothing_joins_behind_packed_words():
    """A group runs over codes; what reads its words runs over words."""
    after = fused(lambda x: bnn.packed_logic(packed(x), packed(op.negative(x)), table=[0, 1, 1, 0], channels=40), MAP)
    assert groups(after)[-1] == ["bnn.packed_logic"]


def test_a_reshape_stays_outside():
    after = fused(lambda x: op.nn.relu(op.reshape(op.negative(x), (2, 1000))), MAP)
    assert operators(after) == ["group", "reshape", "group"]


def test_an_operator_without_schedule_of_its_own_is_alone():
    after = fused(lambda x: op.negative(op.nn.softmax(op.negative(x))), MAP)
    assert groups(after) == [["negative"], ["nn.softmax"], ["negative"]]


def test_two_parts_of_a_split():
    def build(x):
        parts = emit(op.split(x, 2, 3))
        return op.add(parts[0], parts[1])

    assert groups(fused(build, MAP)) == [["split"], ["add"]]


def test_an_output_in_the_middle_of_a_chain_leaves_the_group():
    def build(x):
        middle = emit(op.negative(x))
        return op.nn.relu(middle), middle

    assert groups(fused(build, MAP)) == [["negative", "nn.relu"]]


def test_a_parameter_and_a_constant_may_be_returned():
    mod = module(lambda x: op.negative(x), MAP)
    main = mod["main"]
    body = relax.SeqExpr(main.body.blocks, tvm.ir.Tuple([main.body.body, main.params[0], const(np.float32(3))]))
    both = tvm.IRModule({"main": relax.Function(main.params, relax.BlockBuilder().normalize(body), is_pure=True)})
    rewritten(fuse_epilogue, both)


def test_a_later_reader_of_an_early_group_joins_it_and_order_stays():
    """The second reader of the first group comes behind a group that reads it, too."""

    def build(w, v):
        first = emit(scaled(conv(w)))
        words = emit(packed(first))
        other = emit(scaled(bnn.packed_conv2d(words, const(rng.integers(0, 1 << 40, (40, 1, 1, 1)).astype(np.uint64)), channels=40)))
        late = emit(op.nn.relu(first))
        return op.add(late, other)

    after = fused(build, WORDS, WORDS)
    assert [len(g) for g in groups(after)] == [6, 4]


def test_scalars_are_inline_and_arrays_are_parameters():
    after = fused(lambda x: op.multiply(op.add(x, const(np.float32(2))), GAIN), MAP)
    (call,) = (b.value for b in Graph(after).bindings)
    assert len(call.args) == 2


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed):
    draw = np.random.default_rng(seed)

    def build(w, x):
        values = [x]
        for _ in range(12):
            a, b = (values[int(i)] for i in draw.integers(0, len(values), 2))
            kind = int(draw.integers(0, 5))
            made = {
                0: lambda a=a, b=b: op.add(a, b),
                1: lambda a=a: op.nn.relu(a),
                2: lambda a=a: scaled(bnn.packed_conv2d(packed(a), const(signs(draw, 40, 1, 1, 1).astype(np.uint64)), channels=40)),
                3: lambda: scaled(conv(w)),
                4: lambda a=a: op.reshape(op.reshape(op.negative(a), (2, 1000)), (2, 5, 5, 40)),
            }[kind]()
            values.append(emit(made))
        return values[-1], values[int(draw.integers(1, len(values)))]

    alive = lower_dequantize(module(build, WORDS, MAP), PassContext())  # every pass before this one leaves no dead code
    rewritten(fuse_epilogue, alive)


def test_a_module_keeps_its_other_functions():
    mod = module(lambda x: op.negative(x), MAP)
    mod["other"] = mod["main"].with_attr("global_symbol", "other")
    assert "other" in [g.name_hint for g in fuse_epilogue(mod, PassContext()).get_global_vars()]


def gated(words, features):
    """A convolution of `words`, then a gate that is made of `features`, then their product: the order in which Keras writes them."""
    y = emit(scaled(emit(conv(words))))
    gate = emit(op.sigmoid(emit(op.nn.avg_pool2d(features, (5, 5), layout="NHWC"))))
    return emit(packed(emit(op.multiply(y, gate))))


def test_a_gate_that_is_computed_behind_the_convolution_multiplies_in_its_epilogue():
    found = groups(fused(gated, WORDS, MAP))
    assert found[-1] == ["bnn.packed_conv2d", "astype", "multiply", "multiply", "bnn.quantize", "bnn.pack"]
    assert all("bnn.packed_conv2d" not in group for group in found[:-1])


def test_a_convolution_that_its_own_gate_reads_stays_in_front_of_it():
    def squeezed(words):
        y = emit(scaled(emit(conv(words))))
        gate = emit(op.sigmoid(emit(op.nn.avg_pool2d(y, (5, 5), layout="NHWC"))))
        return emit(op.multiply(y, gate))

    assert groups(fused(squeezed, WORDS))[0] == ["bnn.packed_conv2d", "astype", "multiply"]


def test_a_shortcut_of_the_same_shape_moves_no_convolution():
    def added(words, features):
        y = emit(scaled(emit(conv(words))))
        shortcut = emit(op.nn.relu(features))
        return emit(op.add(y, shortcut))

    assert groups(fused(added, WORDS, MAP))[0][0] == "bnn.packed_conv2d"


def codes_of(words):
    return op.astype(bnn.unpack(words, 40), "float32")


def test_an_average_is_taken_of_what_is_computed_in_front_of_it_alone():
    build = lambda words: op.mean(emit(op.multiply(emit(codes_of(words)), GAIN)), [1, 2], keepdims=True)  # noqa: E731
    assert groups(fused(build, WORDS)) == [["bnn.unpack", "astype", "multiply", "mean"]]


def test_an_average_of_what_others_read_too_has_a_group_of_its_own():
    def build(words):
        y = emit(op.multiply(emit(codes_of(words)), GAIN))
        return op.mean(y, [1, 2], keepdims=True), emit(op.negative(y))

    assert ["mean"] in groups(fused(build, WORDS))


def test_a_convolution_makes_its_own_padded_image():
    """From NCHW, padded: one kernel."""

    def build(x):
        image = op.nn.pad(op.permute_dims(x, [0, 2, 3, 1]), [0, 0, 1, 1, 1, 1, 0, 0])
        return op.nn.relu(op.nn.conv2d(image, const(np.ones((3, 3, 3, 8), np.float32)), data_layout="NHWC", kernel_layout="HWIO"))

    after = rewritten(fuse_epilogue, module(build, ((1, 3, 16, 16), "float32")))
    assert operators(after) == ["group"]


def test_an_image_that_others_read_too_or_of_long_rows_is_made_once():
    weights = const(np.ones((3, 3, 3, 8), np.float32))

    def shared(x):
        image = op.nn.pad(x, [0, 0, 1, 1, 1, 1, 0, 0])
        return tuple(op.nn.conv2d(image, weights, strides=s, data_layout="NHWC", kernel_layout="HWIO") for s in (1, 2))

    def long(x):
        return op.nn.conv2d(op.nn.pad(x, [0, 0, 1, 1, 1, 1, 0, 0]), weights, data_layout="NHWC", kernel_layout="HWIO")

    assert operators(rewritten(fuse_epilogue, module(shared, ((1, 6, 6, 3), "float32")))) == ["group"] * 3
    assert operators(rewritten(fuse_epilogue, module(long, ((1, 4, 2000, 3), "float32")))) == ["group"] * 2


def test_terms_of_a_sum_that_lie_in_memory_are_one_kernel():
    """Each is unpacked where the sum reads it, not stored as a tensor of its own."""

    def build(*words):
        reals = [op.astype(bnn.unpack(w, 8, 1, 64), "float32") for w in words]
        return op.add(op.add(reals[0], reals[1]), reals[2])

    assert operators(
        rewritten(fuse_epilogue, module(build, *[((1, 2, 2, 1), "uint64")] * 3), None, *[np.arange(4, dtype=np.uint64).reshape(1, 2, 2, 1)] * 3)
    ) == ["group"]


def test_repeated_channels_stay_in_the_group_of_what_is_repeated():
    def build(x):
        repeats = bnn.repeat_channels(op.nn.relu(x), each=1, times=2)
        return bnn.pack(bnn.quantize(repeats, const(np.zeros((1, 8), np.float32)), const(np.int8(1))), 8)

    assert operators(rewritten(fuse_epilogue, module(build, ((1, 2, 2, 4), "float32")))) == ["group"]


def test_what_is_read_elsewhere_is_not_repeated_in_its_own_group():
    def build(x):
        real = op.nn.relu(x)
        return real, bnn.pack(bnn.quantize(bnn.repeat_channels(real, each=2), const(np.zeros((1, 8), np.float32)), const(np.int8(1))), 8)

    assert operators(rewritten(fuse_epilogue, module(build, ((1, 2, 2, 4), "float32")))) == ["group"] * 2

"""Packed modules compute what logical ones do, bit for bit, whatever the channels, groups, movement and padding."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.ops.interpreter import run_module
from bnncc.ops.pack import PackAttrs, pack_reference, unpack_reference
from bnncc.passes.context import Options, PassContext
from bnncc.passes.pack_bits import pack_bits
from bnncc.passes.rewrite import const

from .programs import arguments, binarized, bindings, module, operators, rewritten, signs, unchanged

CHANNELS = [1, 31, 32, 33, 63, 64, 65, 127, 128, 129]
LOGICAL = {"bnn.conv2d", "bnn.dense", "bnn.max_pool2d", "bnn.logic", "bnn.pad"}
rng = np.random.default_rng(5)


emit = lambda expr: relax.BlockBuilder.current().emit(expr)  # noqa: E731


def weights(*shape):
    return const(signs(rng, *shape))


def packed(build, *shapes, bits=64, unpacks=False):
    """Pack a module of float inputs; of the logical level only quantizers are left, and the words are recorded as what they hold."""
    mod, ctx = module(build, *((s, "float32") for s in shapes)), PassContext(Options(word_bits=bits))
    after = rewritten(pack_bits, mod, ctx)
    codes, words, drawn = {}, {}, arguments(mod)
    run_module(mod, *drawn, observe=codes.__setitem__)
    run_module(after, *drawn, observe=words.__setitem__)
    alive = ctx.packed.keys() & words.keys()
    assert alive
    for name in alive:
        held = ctx.packed[name]
        np.testing.assert_array_equal(unpack_reference(held, words[name]), codes[name])
    found = operators(after)
    assert not LOGICAL & set(found)
    assert ("bnn.unpack" in found) == unpacks
    return after


def test_codes_become_words_and_a_dense_layer_a_packed_one():
    w = signs(rng, 5, 70)
    zero, one = np.zeros(1, np.float32), np.int8(1)
    words = pack_reference(PackAttrs(70, 1, 64), w)

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((3, 70), "float32")):
            with R.dataflow():
                c = R.bnn.quantize(x, R.const(zero), R.const(one, "int8"))
                n = R.bnn.dense(c, R.const(w, "int8"))
                R.output(n)
            return n

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((3, 70), "float32")):
            with R.dataflow():
                q = R.bnn.quantize(x, R.const(zero), R.const(one, "int8"))
                c = R.bnn.pack(q, channels=70)
                n = R.bnn.packed_dense(c, R.const(words, "uint64"), channels=70)
                R.output(n)
            return n

    tvm.ir.assert_structural_equal(rewritten(pack_bits, Before), Expected)


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("bits", [8, 32, 64])
@pytest.mark.parametrize("channels", CHANNELS)
def test_dense_layers_across_word_edges(channels, bits, ternary):
    after = packed(lambda x: bnn.dense(binarized(x, ternary), weights(7, channels)), (3, channels), bits=bits)
    (call,) = bindings(after, "bnn.packed_dense")
    assert call.args[1].value.numpy().dtype == f"uint{bits}" and call.attrs.planes == 1 + ternary


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("pad_code", [-1, 0, 1])
@pytest.mark.parametrize("channels", CHANNELS)
def test_convolutions_across_word_edges_and_paddings(channels, pad_code, ternary):
    build = lambda x: bnn.conv2d(binarized(x, ternary), weights(4, 3, 2, channels), padding=(1, 0, 2, 1), pad_code=pad_code)  # noqa: E731
    (call,) = bindings(packed(build, (2, 5, 4, channels)), "bnn.packed_conv2d")
    assert len(call.args) == (5 if pad_code == 0 else 2)


GEOMETRY = [
    {"strides": (2, 1)},
    {"strides": (3, 2), "padding": (1, 1, 1, 1)},
    {"dilation": (2, 3)},
    {"dilation": (1, 2), "strides": (2, 2), "padding": (2, 2, 2, 2)},
    {"padding": (0, 3, 0, 0)},
    {"padding": (4, 4, 4, 4), "strides": (4, 4)},  # windows that lie in the padding entirely
]


@pytest.mark.parametrize("pad_code", [-1, 0, 1])
@pytest.mark.parametrize("attributes", GEOMETRY, ids=str)
def test_strides_dilation_and_borders(attributes, pad_code):
    packed(lambda x: bnn.conv2d(binarized(x), weights(5, 3, 3, 33), pad_code=pad_code, **attributes), (1, 9, 10, 33))


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("per_group", [1, 24, 32, 33, 64, 65])
@pytest.mark.parametrize("groups", [2, 4])
def test_groups_of_a_convolution_are_read_out_of_words_of_all_channels(groups, per_group, ternary):
    build = lambda x: bnn.conv2d(binarized(x, ternary), weights(2 * groups, 3, 3, per_group), padding=(1, 1, 1, 1), groups=groups)  # noqa: E731
    after = packed(build, (1, 4, 5, groups * per_group))
    assert "bnn.gather_channels" not in operators(after)


def test_a_depthwise_convolution_reads_a_word_a_channel():
    after = packed(lambda x: bnn.conv2d(binarized(x), weights(40, 3, 3, 1), padding=(1, 1, 1, 1), groups=40), (1, 5, 5, 40), bits=32)
    assert "bnn.gather_channels" in operators(after)


PADS = [("constant", -1), ("constant", 0), ("constant", 1), ("edge", 0), ("reflect", 0)]


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("mode, code", PADS)
@pytest.mark.parametrize("channels", [33, 64])
def test_pads_write_words(channels, mode, code, ternary):
    build = lambda x: bnn.conv2d(bnn.pad(binarized(x, ternary), (1, 2, 0, 1), mode, code), weights(4, 2, 2, channels))  # noqa: E731
    packed(build, (2, 4, 5, channels))


POOLS = [((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), ((3, 3), (2, 1), (1, 1, 1, 1), (1, 1)), ((2, 2), (1, 1), (0, 0, 0, 0), (2, 1))]


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("geometry", POOLS)
@pytest.mark.parametrize("channels", [31, 64, 65])
def test_pools_act_on_words_with_a_direction_for_each_channel(channels, geometry, ternary):
    flip = weights(channels)
    build = lambda x: bnn.conv2d(bnn.max_pool2d(binarized(x, ternary), flip, *geometry), weights(4, 2, 2, channels))  # noqa: E731
    packed(build, (2, 7, 6, channels))


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("channels", CHANNELS)
def test_an_image_is_flattened_for_a_dense_layer(channels, ternary):
    """Pixels start words of their own; the weights are laid out likewise, and nothing moves."""
    build = lambda x: bnn.dense(op.reshape(binarized(x, ternary), (2, 6 * channels)), weights(3, 6 * channels))  # noqa: E731
    after = packed(build, (2, 2, 3, channels), unpacks=False)
    assert "bnn.gather_channels" not in operators(after)


@pytest.mark.parametrize("shape, flat", [((2, 1, 1, 33), (2, 33)), ((2, 33), (2, 1, 1, 33)), ((2, 3, 4, 33), (2, 12, 33))])
def test_reshapes_that_leave_channels_alone_move_words(shape, flat):
    w = weights(3, flat[-1]) if len(flat) == 2 else None

    def build(x):
        moved = op.reshape(binarized(x), flat)
        return bnn.dense(moved, w) if w is not None else bnn.dense(op.reshape(moved, (2 * 12 if len(flat) == 3 else 2, 33)), weights(3, 33))

    assert "bnn.gather_channels" not in operators(packed(build, shape))


@pytest.mark.parametrize("ternary", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("first, second", [(31, 2), (32, 32), (64, 1), (1, 64), (65, 63), (64, 128)])
def test_channels_are_concatenated(first, second, ternary):
    build = lambda x, y: bnn.conv2d(  # noqa: E731
        op.concat([binarized(x, bool(ternary[0])), binarized(y, bool(ternary[1]))], 3), weights(3, 2, 2, first + second)
    )
    packed(build, (1, 3, 4, first), (1, 3, 4, second))


@pytest.mark.parametrize("ternary", [(False, False), (True, False), (True, True)])
def test_rows_are_concatenated(ternary):
    build = lambda x, y: bnn.conv2d(op.concat([binarized(x, ternary[0]), binarized(y, ternary[1])], 1), weights(3, 2, 2, 40))  # noqa: E731
    assert "bnn.gather_channels" not in operators(packed(build, (1, 3, 4, 40), (1, 2, 4, 40)))


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("begin, end, step", [(0, 33, 1), (31, 65, 1), (64, 129, 1), (3, 120, 7), (128, 0, -1), (-65, -1, 1)])
def test_channels_are_sliced(begin, end, step, ternary):
    count = len(np.arange(129)[begin:end:step])
    build = lambda x: bnn.conv2d(op.strided_slice(binarized(x, ternary), [3], [begin], [end], [step]), weights(3, 2, 2, count))  # noqa: E731
    packed(build, (1, 3, 4, 129))


def test_pixels_and_channels_are_sliced_at_once():
    build = lambda x: bnn.conv2d(op.strided_slice(binarized(x), [1, 3], [1, 30], [5, 70], [2, 1]), weights(3, 2, 2, 40))  # noqa: E731
    packed(build, (1, 6, 4, 129))


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("channels", [36, 66, 128])
def test_channels_are_shuffled(channels, ternary):
    order = np.arange(channels).reshape(2, -1).T.ravel().astype(np.int32)
    build = lambda x: bnn.conv2d(op.take(binarized(x, ternary), const(order), 3), weights(4, 2, 2, channels // 2), groups=2)  # noqa: E731
    packed(build, (1, 3, 4, channels))


def test_a_shuffle_by_reshape_and_transpose():
    def build(x):
        split = op.reshape(binarized(x), (1, 3, 4, 2, 20))
        return bnn.conv2d(op.reshape(op.permute_dims(split, [0, 1, 2, 4, 3]), (1, 3, 4, 40)), weights(4, 2, 2, 40))

    after = rewritten(pack_bits, module(build, ((1, 3, 4, 40), "float32")))
    assert "bnn.packed_conv2d" in operators(after)


def test_rows_and_columns_are_transposed_as_words():
    build = lambda x: bnn.conv2d(op.permute_dims(binarized(x), [0, 2, 1, 3]), weights(4, 2, 2, 40))  # noqa: E731
    packed(build, (1, 3, 4, 40))


def test_channels_that_are_transposed_away_come_out_of_their_words():
    build = lambda x: bnn.conv2d(op.permute_dims(binarized(x), [0, 3, 1, 2]), weights(4, 2, 2, 4))  # noqa: E731
    after = rewritten(pack_bits, module(build, ((1, 3, 4, 40), "float32")))
    assert operators(after)[-2:] == ["bnn.pack", "bnn.packed_conv2d"]


XNOR, OR = [1, -1, -1, 1], [1, 1, 1, -1]


@pytest.mark.parametrize("table", [XNOR, OR, [-1, -1, 1, -1]])
@pytest.mark.parametrize("channels", [1, 33, 64, 129])
def test_logic_acts_on_words(channels, table):
    build = lambda x, y: bnn.dense(bnn.logic(binarized(x), binarized(y), table=table), weights(4, channels))  # noqa: E731
    packed(build, (3, channels), (3, channels))


@pytest.mark.parametrize("levels", [(3, 2), (2, 3), (3, 3)])
@pytest.mark.parametrize("function", [np.multiply, np.maximum, np.minimum])
def test_three_valued_logic_acts_on_planes(function, levels):
    digits = [(1, 0, -1) if n == 3 else (1, -1) for n in levels]
    table = [int(function(a, b)) for b in digits[1] for a in digits[0]]
    build = lambda x, y: bnn.dense(  # noqa: E731
        bnn.logic(binarized(x, levels[0] == 3), binarized(y, levels[1] == 3), table=table, levels=levels), weights(4, 70)
    )
    packed(build, (6, 70), (6, 70))


def test_logic_of_words_in_another_arrangement():
    """A flattened image starts a word with each pixel, the other operand does not."""
    build = lambda x, y: bnn.dense(bnn.logic(op.reshape(binarized(x), (2, 120)), binarized(y), table=XNOR), weights(4, 120))  # noqa: E731
    packed(build, (2, 2, 3, 20), (2, 120))


def test_logic_whose_inputs_are_words_and_whose_result_is_codes():
    build = lambda x, y: bnn.dequantize(bnn.logic(binarized(x), binarized(y), table=XNOR), const(np.float32(1)), const(np.float32(0)))  # noqa: E731
    packed(build, (3, 40), (3, 40), unpacks=True)


def test_codes_that_are_read_as_numbers_too_are_not_unpacked():
    def build(x):
        codes = relax.BlockBuilder.current().emit(binarized(x))
        return bnn.dense(codes, weights(4, 40)), bnn.dequantize(codes, const(np.float32(1)), const(np.float32(0)))

    packed(build, (3, 40), unpacks=False)


def test_codes_that_no_layer_reads_are_not_packed():
    unchanged(pack_bits, module(lambda x: op.permute_dims(binarized(x), [1, 0]), ((3, 40), "float32")))


def test_codes_of_two_layers_are_packed_once():
    def build(x):
        codes = relax.BlockBuilder.current().emit(binarized(x))
        return bnn.conv2d(codes, weights(4, 3, 3, 40)), bnn.conv2d(codes, weights(4, 1, 1, 40))

    assert operators(packed(build, (1, 5, 5, 40))).count("bnn.pack") == 1


def test_codes_that_come_from_elsewhere_are_packed_where_they_are_read():
    mod = module(lambda c: bnn.dense(c, weights(4, 40)), ((3, 40), "int8"))
    assert operators(rewritten(pack_bits, mod)) == ["bnn.pack", "bnn.packed_dense"]


@pytest.mark.parametrize("seed", range(30))
def test_random_rows_of_movement(seed):
    draw = np.random.default_rng(seed)
    channels = int(draw.choice(CHANNELS[1:]))

    def build(x):
        v, h, w, c = binarized(x, bool(draw.integers(0, 2))), 6, 6, channels
        for kind in draw.integers(0, 6, 4):
            if kind == 0:
                keep = int(draw.integers(1, c + 1))
                v, c = op.strided_slice(v, [3], [c - keep], [c]), keep
            elif kind == 1:
                v, c = op.concat([v, binarized(op.strided_slice(x, [1, 2], [0, 0], [h, w]))], 3), c + channels
            elif kind == 2:
                v = op.take(v, const(draw.permutation(c).astype(np.int32)), 3)
            elif kind == 3:
                v = bnn.pad(v, (0, 1, 0, 0), "constant", int(draw.integers(-1, 2)))
                v = op.strided_slice(v, [2], [0], [w])
            elif kind == 4 and h > 3:
                v, h = op.strided_slice(v, [1], [1], [h]), h - 1
            elif kind == 5:
                v = bnn.max_pool2d(v, const(signs(draw, c)), (2, 1), (1, 1), (1, 0, 0, 0), (1, 1))
        if draw.integers(0, 2):
            return bnn.dense(op.reshape(v, (2, h * w * c)), const(signs(draw, 3, h * w * c)))
        return bnn.conv2d(v, const(signs(draw, 4, 3, 3, c)), padding=(1, 1, 1, 1))

    rewritten(pack_bits, module(build, ((2, 6, 6, channels), "float32")), PassContext(Options(word_bits=int(draw.choice([32, 64])))))


def test_codes_of_a_rounding_keep_their_zero_in_two_planes():
    weights = signs(np.random.default_rng(0), 5, 8)
    build = lambda x: bnn.dense(op.astype(op.clip(op.round(x), -1, 1), "int8"), const(weights))  # noqa: E731
    after = rewritten(pack_bits, module(build, ((3, 8), "float32")))
    assert bindings(after, "bnn.packed_dense")[0].attrs.planes == 2


@pytest.mark.parametrize("channels", [31, 64, 65])
@pytest.mark.parametrize("ternary", [False, True])
def test_a_nearest_resize_moves_words(channels, ternary):
    def build(x):
        emit = relax.BlockBuilder.current().emit
        size = {"layout": "NHWC", "method": "nearest_neighbor", "coordinate_transformation_mode": "asymmetric", "rounding_method": "floor"}
        wide = emit(op.image.resize2d(emit(binarized(x, ternary)), (6, 8), **size))
        return bnn.conv2d(wide, weights(4, 3, 3, channels), padding=(1, 1, 1, 1))

    after = packed(build, (1, 3, 4, channels))
    (resize,) = bindings(after, "image.resize2d")
    assert str(resize.ty.dtype) == "uint64"


def test_a_shuffle_of_a_concatenation_is_one_gather():
    order = const(np.random.default_rng(3).permutation(80).astype(np.int32))

    def build(a, b):
        both = op.concat([emit(binarized(a)), emit(binarized(b))], axis=1)
        return bnn.dense(emit(op.take(emit(both), order, axis=1)), weights(5, 80))

    (gather,) = bindings(packed(build, (2, 40), (2, 40)), "bnn.gather_channels")
    assert len(gather.args) == 3  # the table, and the two tensors themselves


def test_a_gather_that_would_keep_more_memory_alive_is_not_merged():
    def build(x):
        shuffled = emit(op.take(emit(binarized(x)), const(np.random.default_rng(3).permutation(256).astype(np.int32)), axis=1))
        first, second = (emit(op.strided_slice(shuffled, [1], [i], [i + 128])) for i in (0, 128))
        y = bnn.dense(first, weights(128, 128))
        q = emit(binarized(emit(op.astype(emit(y), "float32"))))
        order = const(np.random.default_rng(4).permutation(256).astype(np.int32))
        return bnn.dense(emit(op.take(emit(op.concat([q, second], axis=1)), order, axis=1)), weights(5, 256))

    last = bindings(packed(build, (2, 256)), "bnn.gather_channels")[-1]
    assert [call.ty.shape[-1] for call in last.args[1:]] == [2, 2]  # not the four words that `second` was taken from


def test_what_is_moved_of_a_constant_alone_stays_as_it_is():
    def build(x):
        row = emit(op.reshape(const(np.arange(70, dtype=np.float32)), (1, 70)))
        return op.add(op.astype(bnn.dense(binarized(x), weights(70, 70)), "float32"), row)

    packed(build, (3, 70))

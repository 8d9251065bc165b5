"""Float contractions, pools, padding, logic, gathers and plain elementwise groups against their NumPy meaning."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from group_runner import CompiledGroup, assembly, check_exact, group, meaning, words
from tvm import relax
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.choices import Choices
from bnncc.schedules.contract_float import float_tile
from bnncc.schedules.x86.bit_chains import PIXELS, chain_table
from bnncc.targets.x86 import V2, V3, V4, native_variant

EDGES = (1, 3, 31, 33, 64, 65, 129)


def floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def check_close(function, arrays, folder, tolerance=1e-5, variant=None):
    for got, expected in zip(CompiledGroup(function, folder, variant)(*arrays), meaning(function, arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "ci, co, size, kernel, stride, dilation, groups",
    [
        (3, 64, 21, 7, 2, 1, 1),
        (64, 128, 9, 1, 1, 1, 1),
        (5, 7, 8, 3, 1, 2, 1),
        (16, 16, 7, 3, 1, 1, 16),
        (12, 18, 7, 3, 2, 1, 3),
        (1, 1, 5, 3, 1, 1, 1),
        (8, 32, 6, 2, 1, 1, 8),
        (512, 40, 6, 3, 1, 1, 1),  # a block of weights is taken in parts
        (1024, 48, 5, 3, 1, 2, 2),
    ],
)
def test_float_convolution_with_bias_relu(ci, co, size, kernel, stride, dilation, groups, tmp_path):
    rng = np.random.default_rng(ci)
    arrays = [floats(rng, 2, size, size, ci), floats(rng, kernel, kernel, ci // groups, co), floats(rng, co)]

    def emit(b, x, w, bias):
        y = b.emit(R.nn.conv2d(x, w, strides=stride, dilation=dilation, groups=groups, data_layout="NHWC", kernel_layout="HWIO"))
        return R.nn.relu(b.emit(R.add(y, bias)))

    check_close(group(emit, *((a.shape, "float32") for a in arrays), constants=(1, 2)), arrays, tmp_path, 1e-4 if ci < 512 else 1e-3)


def test_scheduled_convolution_equals_the_unscheduled_one(tmp_path):
    rng = np.random.default_rng(17)
    arrays = [floats(rng, 1, 13, 13, 20), floats(rng, 3, 3, 20, 40)]
    emit = lambda b, x, w: R.nn.conv2d(x, w, strides=2, data_layout="NHWC", kernel_layout="HWIO")  # noqa: E731
    params = [(a.shape, "float32") for a in arrays]
    scheduled, plain = (CompiledGroup(group(emit, *params, constants=constants), tmp_path) for constants in ((1,), ()))
    assert plain.kernel.note.startswith("Relax's legalization") and "tile" in scheduled.kernel.note
    np.testing.assert_allclose(scheduled(*arrays)[0], plain(*arrays)[0], rtol=1e-4, atol=1e-4)


def test_float_convolution_is_fused_multiply_adds():
    function = group(
        lambda b, x, w: R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO"), ((1, 10, 10, 16), "float32"), ((3, 3, 16, 48), "float32"), constants=(1,)
    )
    code = assembly(function, V3)
    assert code.count("vfmadd231ps") >= 12 * 8, "a tile of 4 pixels x 3 vectors, unrolled"
    assert "vmulps" not in code and "call" not in code
    assert "zmm20" in assembly(function, V4), "a larger tile where there are more registers"


@pytest.mark.parametrize("rows, k, m", [(1, 512, 1000), (3, 7, 5), (13, 65, 33), (1, 1, 1)])
def test_matrix_product_with_bias(rows, k, m, tmp_path):
    rng = np.random.default_rng(k)
    arrays = [floats(rng, rows, k), floats(rng, k, m), floats(rng, 1, m)]

    def emit(b, x, w, bias):
        return R.add(b.emit(R.matmul(x, w)), bias)

    check_close(group(emit, *((a.shape, "float32") for a in arrays), constants=(1, 2)), arrays, tmp_path, 1e-4)


@pytest.mark.parametrize("outputs", [1008, 2000])
def test_threads_share_the_outputs_of_a_dense_layer(outputs, tmp_path):
    rng = np.random.default_rng(outputs)
    arrays = [floats(rng, 1, 300), floats(rng, 300, outputs), floats(rng, 1, outputs)]
    function = group(lambda b, x, w, bias: R.add(b.emit(R.matmul(x, w)), bias), *((a.shape, "float32") for a in arrays), constants=(1, 2))
    compiled = CompiledGroup(function, tmp_path)
    assert compiled.parallel
    np.testing.assert_array_equal(compiled(*arrays, parts=7)[0], compiled(*arrays)[0])


@pytest.mark.parametrize("channels", EDGES)
@pytest.mark.parametrize("padding, ceil", [((0, 0, 0, 0), False), ((1, 1, 1, 1), False), ((0, 1, 1, 0), True)])
def test_max_pool_then_bits(channels, padding, ceil, tmp_path):
    rng = np.random.default_rng(channels)
    arrays = [floats(rng, 1, 8, 9, channels), floats(rng, 1, channels)]

    def emit(b, x, t):
        y = b.emit(R.nn.max_pool2d(x, (3, 3), (2, 2), padding, layout="NHWC", ceil_mode=ceil))
        return y, bnn.pack(b.emit(bnn.quantize(y, t, relax.const(np.int8(1)))), channels=channels)

    check_exact(group(emit, *((a.shape, "float32") for a in arrays), constants=(1,)), arrays, tmp_path)


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize(
    "padding, ceil, dilation",
    [((0, 0, 0, 0), False, (1, 1)), ((1, 1, 1, 1), False, (1, 1)), ((1, 1, 1, 1), True, (1, 1)), ((1, 1, 2, 1), True, (2, 3))],
)
def test_average_pool_agrees_with_onnxruntime(count_include_pad, padding, ceil, dilation, tmp_path):
    x = floats(np.random.default_rng(5), 1, 8, 10, 20)
    node = onnx.helper.make_node(
        "AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2], pads=padding, ceil_mode=int(ceil), count_include_pad=int(count_include_pad),
        dilations=dilation,
    )  # fmt: skip
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "pool", [value("x", 1, [1, 20, 8, 10])], [value("y", 1, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=8)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})

    def emit(b, v):
        return R.nn.avg_pool2d(v, (3, 2), (2, 2), padding, dilation, layout="NHWC", ceil_mode=ceil, count_include_pad=count_include_pad)

    (got,) = CompiledGroup(group(emit, (x.shape, "float32")), tmp_path)(x)
    np.testing.assert_allclose(got, expected.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


def test_global_average_keeps_or_drops_its_axes(tmp_path):
    x = floats(np.random.default_rng(6), 2, 7, 7, 37)
    for keepdims in (True, False):
        function = group(lambda b, v, keepdims=keepdims: R.nn.relu(b.emit(R.mean(v, axis=[1, 2], keepdims=keepdims))), (x.shape, "float32"))
        check_close(function, [x], tmp_path)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
@pytest.mark.parametrize("channels", [3, 24])
def test_float_padding(mode, channels, tmp_path):
    x = floats(np.random.default_rng(7), 1, 5, 6, channels)
    check_exact(group(lambda b, v: R.nn.pad(v, (0, 0, 2, 1, 3, 0, 0, 0), mode, -1.5), (x.shape, "float32")), [x], tmp_path)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("bits", [8, 64])
def test_packed_padding(mode, bits, tmp_path):
    rng = np.random.default_rng(8)
    arrays = [words(rng, (1, 4, 5), bits, 130), words(rng, (), bits, 130)]
    params = [(a.shape, f"uint{bits}") for a in arrays]
    check_exact(group(lambda b, x, f: bnn.packed_pad(x, f, (1, 2, 0, 1), mode), *params, constants=(1,)), arrays, tmp_path)


@pytest.mark.parametrize("channels", [1, 33, 64, 200])
def test_packed_pool_of_maxima_and_minima(channels, tmp_path):
    rng = np.random.default_rng(9)
    arrays = [words(rng, (1, 7, 7), 64, channels), words(rng, (), 64, channels)]
    for padding in ((0, 0, 0, 0), (1, 0, 1, 1)):
        function = group(lambda b, x, f, p=padding: bnn.packed_max_pool2d(x, f, (2, 3), (2, 2), p), *((a.shape, "uint64") for a in arrays), constants=(1,))
        check_exact(function, arrays, tmp_path)


@pytest.mark.parametrize("table", [(0, 1, 1, 0), (1, 0, 0, 1), (0, 0, 0, 1), (1, 1, 0, 1, 0, 0, 1, 0), (1, 1)])
@pytest.mark.parametrize("channels, groups", [(64, 1), (70, 1), (66, 2), (330, 2)])
def test_packed_logic_of_any_table_keeps_tails_clear(table, channels, groups, tmp_path):
    rng = np.random.default_rng(10)
    arrays = [words(rng, (1, 3, 3), 64, channels, groups) for _ in range(len(table).bit_length() - 1)]
    params = [(a.shape, "uint64") for a in arrays]
    check_exact(group(lambda b, *xs: bnn.packed_logic(*xs, table=table, channels=channels, groups=groups), *params), arrays, tmp_path)


@pytest.mark.parametrize("channels", [40, 128, 200, 4096])
def test_packed_logic_makes_several_planes(channels, tmp_path):
    rng = np.random.default_rng(channels)
    arrays = [words(rng, (1, 3, 3), 64, channels) for _ in range(3)]
    table = tuple(int(v) for v in rng.integers(0, 2, 2 * 8))
    params = [(a.shape, "uint64") for a in arrays]
    check_exact(group(lambda b, *xs: bnn.packed_logic(*xs, table=table, channels=channels), *params), arrays, tmp_path)


@pytest.mark.parametrize("bits", [8, 32, 64])
@pytest.mark.parametrize("kind", ["concatenate", "slice", "shuffle", "regroup", "turned around", "at random"])
@pytest.mark.parametrize("variant", [V2, native_variant()], ids=lambda variant: variant.name)
def test_channel_gathers(kind, bits, variant, tmp_path):
    rng = np.random.default_rng(11)
    in_channels, in_groups, out_groups = (70, 64), (1, 1), 1
    index = {
        "concatenate": [(0, c) for c in range(70)] + [(1, c) for c in range(64)],
        "slice": [(0, c) for c in range(5, 69)],
        "shuffle": [(i, c) for c in range(64) for i in (0, 1)],
        "regroup": [(1, c) for c in range(64)] + [(0, c) for c in range(64)],
        "turned around": [(0, c) for c in reversed(range(70))],
        "at random": [(0, int(c)) for c in rng.integers(0, 70, 100)],
    }[kind]
    if kind == "regroup":
        in_groups, out_groups = (2, 2), 4
    arrays = [np.array(index, np.int32)] + [words(rng, (1, 5, 3), bits, c, g) for c, g in zip(in_channels, in_groups)]

    def emit(b, i, *xs):
        return bnn.gather_channels(i, *xs, in_channels=in_channels, in_groups=in_groups, out_channels=len(index), out_groups=out_groups, word_bits=bits)

    params = [(a.shape, str(a.dtype)) for a in arrays]
    check_exact(group(emit, *params, constants=(0,)), arrays, tmp_path, variant)


def test_a_shuffle_moves_all_bits_between_two_words_at_once():
    layout = PackedLayout(64, 1, 64)
    rows = chain_table(np.array([(i, c) for c in range(32) for i in (0, 1)], np.int32), [layout, layout], layout)
    low = (1 << 32) - 1
    assert [int(n) for n in rows[:7]] == [2, 0, low, 0x5555555555555555, 1, low, 0xAAAAAAAAAAAAAAAA]
    params = [((64, 2), "int32"), *[((1, 8, 8, 1), "uint64")] * 2]
    attrs = {"in_channels": (64, 64), "in_groups": (1, 1), "out_channels": 64, "out_groups": 1, "word_bits": 64}
    code = assembly(group(lambda b, i, *xs: bnn.gather_channels(i, *xs, **attrs), *params, constants=(0,)), V3)
    assert code.count("pextq") >= PIXELS and code.count("pdepq") >= PIXELS


@pytest.mark.parametrize("channels", EDGES)
@pytest.mark.parametrize("groups, bits", [(1, 8), (1, 64), (3, 16)])
def test_unpack_gives_the_codes_back(channels, groups, bits, tmp_path):
    channels *= groups
    arrays = [words(np.random.default_rng(12), (2, 3), bits, channels, groups), floats(np.random.default_rng(13), channels)]
    params = [(arrays[0].shape, f"uint{bits}"), ((channels,), "float32")]

    def emit(b, x, s):
        codes = b.emit(bnn.unpack(x, channels=channels, groups=groups, word_bits=bits))
        return R.multiply(b.emit(R.astype(codes, "float32")), s)

    check_exact(group(emit, *params, constants=(1,)), arrays, tmp_path)


def test_unpack_of_two_planes_gives_zeros_back(tmp_path):
    codes = np.random.default_rng(16).integers(-1, 2, (2, 3, 70)).astype(np.int8)
    packed = pack_reference(PackAttrs(70, 2, 32, 2), codes)
    function = group(lambda b, x: bnn.unpack(x, channels=70, groups=2, word_bits=32, planes=2), (packed.shape, "uint32"))
    (got,) = CompiledGroup(function, tmp_path)(packed)
    np.testing.assert_array_equal(got, codes)


@pytest.mark.parametrize("channels", [1, 33, 64, 66])
@pytest.mark.parametrize("groups, bits", [(1, 8), (1, 64), (2, 32), (2, 64)])
def test_quantize_and_pack_alone(channels, groups, bits, tmp_path):
    channels *= groups
    rng = np.random.default_rng(14)
    arrays = [floats(rng, 1, 3, 3, channels), floats(rng, 1, channels), rng.choice(np.array([-1, 1], np.int8), channels)]

    def emit(b, x, t, f):
        return bnn.pack(b.emit(bnn.quantize(x, t, f)), channels=channels, groups=groups, word_bits=bits)

    params = [(a.shape, str(a.dtype)) for a in arrays]
    check_exact(group(emit, *params, constants=(1, 2)), arrays, tmp_path)


def test_quantize_to_several_levels(tmp_path):
    rng = np.random.default_rng(15)
    arrays = [floats(rng, 1, 3, 3, 21), np.sort(floats(rng, 7, 21), axis=0)]
    params = [(a.shape, "float32") for a in arrays]
    check_exact(group(lambda b, x, t: bnn.quantize(x, t, relax.const(np.int8(1)), lo=0, step=1), *params, constants=(1,)), arrays, tmp_path)


@pytest.mark.parametrize(
    "pixels, vectors, tile",
    [(16, 3, (4, 3)), (16, 4, (6, 2)), (14, 8, (6, 2)), (54, 6, (4, 3)), (16, 1, (12, 1)), (1, 5, (1, 5)), (1, 125, (1, 5)), (1, 11, (1, 8))],
)
def test_a_float_register_tile_leaves_no_lone_vector(pixels, vectors, tile):
    assert float_tile(SimpleNamespace(variant=V3, choices=Choices()), pixels, vectors) == tile

from __future__ import annotations

import numpy as np
import pytest

from bnncc.errors import InternalError
from bnncc.passes.context import Options, PassContext, TensorView

X = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


def test_a_plain_view_is_the_tensor_itself():
    assert TensorView("x").from_onnx(X) is X
    np.testing.assert_array_equal(TensorView("x").to_onnx(X), X)


def test_perm_is_numpy_s_transpose_of_the_onnx_tensor():
    view = TensorView("x", (0, 2, 3, 1))
    np.testing.assert_array_equal(view.from_onnx(X), X.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(view.to_onnx(X.transpose(0, 2, 3, 1)), X)


def test_a_flattened_nhwc_image_is_split_first():
    view = TensorView("x", (0, 2, 3, 1), split=(1, 2, 3, 4), shape=(1, 24), onnx_shape=(1, 24))
    flat = X.reshape(1, 24)
    np.testing.assert_array_equal(view.from_onnx(flat), X.transpose(0, 2, 3, 1).reshape(1, 24))
    np.testing.assert_array_equal(view.to_onnx(view.from_onnx(flat)), flat)


def test_codes_are_scaled_to_the_tensor():
    view = TensorView("x", (1, 0), scale=0.5, offset=2.0)
    codes = np.array([[-1, 1, 3]], np.int8)
    np.testing.assert_array_equal(view.to_onnx(codes), np.array([[1.5], [2.5], [3.5]], np.float32))
    np.testing.assert_array_equal(view.from_onnx(view.to_onnx(codes)), codes)


def test_rescaled_composes_and_keeps_the_split():
    view = TensorView("x", (1, 0), 2.0, 1.0, split=(2, 3), shape=(6,), onnx_shape=(6,))
    codes = view.rescaled(4.0, 3.0)
    assert (codes.scale, codes.offset) == (8.0, 7.0) and codes.split == (2, 3)
    value = np.arange(6, dtype=np.float32)
    np.testing.assert_array_equal(codes.to_onnx(value), view.to_onnx(value * 4 + 3))


def test_a_split_comes_with_both_shapes():
    with pytest.raises(InternalError, match="'x' needs split, shape and onnx_shape together"):
        TensorView("x", split=(1, 24))


def test_a_plane_of_levels_is_read_from_the_nearest_and_does_not_tell_the_numbers():
    view = TensorView("x", (1, 0), levels=((-2.0, 1), (0.0, -1), (3.0, 1)))
    np.testing.assert_array_equal(view.from_onnx(np.float32([[-1.9, 0.1], [2.9, -0.1]])), [[1, 1], [-1, -1]])
    with pytest.raises(InternalError, match="'x'"):
        view.to_onnx(np.ones((2, 2), np.float32))


def test_sign_zero_is_one_of_three():
    with pytest.raises(InternalError, match="exact, plus, minus"):
        Options(sign_zero="random")


def test_words_have_a_power_of_two():
    with pytest.raises(InternalError, match="24"):
        Options(word_bits=24)


def test_a_warning_is_noted_once():
    ctx = PassContext()
    ctx.warn("a")
    ctx.warn("a")
    assert ctx.warnings == ["a"]


def test_onnx_name_falls_back_to_the_variable():
    ctx = PassContext(tensors={"v": TensorView("conv1")})
    assert ctx.onnx_name("v") == "conv1" and ctx.onnx_name("w") == "w"


def test_codes_up_to_255_are_no_words():
    ctx = PassContext(unsigned_codes={"code"})
    assert ctx.are_words("packed", "uint8") and ctx.are_words("packed", "uint64")
    assert not ctx.are_words("code", "uint8") and not ctx.are_words("real", "float32")

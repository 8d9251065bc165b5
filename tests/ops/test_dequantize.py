from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn

from .dialect import call_type, evaluate


def test_dequantize_scales_and_shifts_by_channel():
    x = np.array([[-1, 1], [1, -1]], np.int8)
    scale, offset = np.array([0.5, 2], np.float32), np.array([0, 3], np.float32)
    assert evaluate(bnn.dequantize, x, scale, offset).tolist() == [[-0.5, 5.0], [0.5, 1.0]]


def test_dequantize_takes_codes():
    with pytest.raises(ValueError, match="codes must be int8"):
        call_type(bnn.dequantize, ((2, 4), "int32"), ((4,), "float32"), ((4,), "float32"))


def test_scale_and_offset_are_float32():
    with pytest.raises(ValueError, match="must be float32"):
        call_type(bnn.dequantize, ((2, 4), "int8"), ((4,), "int8"), ((4,), "float32"))


def test_scale_and_offset_do_not_widen_the_codes():
    with pytest.raises(ValueError, match="must broadcast"):
        call_type(bnn.dequantize, ((4,), "int8"), ((2, 4), "float32"), ((4,), "float32"))

"""A quantizer of some channels out of one of all channels."""

from __future__ import annotations

import numpy as np
from tvm import relax

from bnncc.ops import static_shape
from bnncc.passes.rewrite import const, constant

__all__ = ["quantize_channels"]


def quantize_channels(quantize: relax.Call, x: relax.Var, picked: np.ndarray | slice) -> relax.Call:
    """Return what quantizes the channels of `x` as `quantize` does its channels number `picked`.

    Parameters
    ----------
    quantize : Call
        A ``bnn.quantize``, channels last; thresholds and flip that hold for all channels stay as they are.
    x : Var
        With as many channels as are picked.
    picked : ndarray of int, or slice
    """
    channels = static_shape(quantize.args[0])[-1]

    def part(array: np.ndarray, lead: int) -> np.ndarray:
        return array[..., picked] if array.ndim > lead and array.shape[-1] == channels else array

    return relax.Call(quantize.op, [x, const(part(constant(quantize.args[1]), 1)), const(part(constant(quantize.args[2]), 0))], quantize.attrs)

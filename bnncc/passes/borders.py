"""What padding adds to the sums of a convolution when it is filled with another code than it should be."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from bnncc.ops import static_shape
from bnncc.ops.geometry import border_classes
from bnncc.passes.rewrite import const

__all__ = ["border_of"]


def border_of(conv: relax.Call, weights: np.ndarray, excess: int) -> tuple[GenericConst, GenericConst, GenericConst]:
    """Return what takes padded taps out of the sums again.

    Parameters
    ----------
    conv : Call
        ``bnn.conv2d``.
    weights : ndarray, shape (Co, KH, KW, Ci)
    excess : int
        How much more than they should the padded taps count as.

    Returns
    -------
    tuple of GenericConst
        The operands of a packed convolution: int32 of shape (classes of rows, classes of columns, Co), and the class of each row and column of the output.
    """
    attrs, shape = conv.attrs, static_shape(conv.args[0])
    top, left, bottom, right = (int(p) for p in attrs.padding)
    rows, outside_rows = border_classes(shape[1], weights.shape[1], attrs.strides[0], attrs.dilation[0], top, bottom)
    cols, outside_cols = border_classes(shape[2], weights.shape[2], attrs.strides[1], attrs.dilation[1], left, right)
    outside = outside_rows[:, None, :, None] | outside_cols[None, :, None, :]
    border = -excess * np.einsum("rcij,oij->rco", outside.astype(np.int32), weights.sum(3, dtype=np.int32))
    return const(border.astype(np.int32)), const(rows), const(cols)

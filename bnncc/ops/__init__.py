"""The ``relax.bnn.*`` dialect, in two levels.

Logical (layout-free small integers, NHWC): quantize, dequantize, conv2d, dense, max_pool2d, logic, pad, repeat_channels.
Packed (words of channels): pack, unpack, packed_conv2d, packed_dense, plane_conv2d, plane_dense, packed_max_pool2d, packed_logic, packed_pad, gather_channels.
Real activations: sign_conv2d, sign_dense. Codes by signs that the kernel is made of: signed_sum_conv2d.
"""

from __future__ import annotations

from bnncc.ops import (  # noqa: F401  (importing registers)
    conv2d,
    dequantize,
    logic,
    movement,
    pack,
    packed_conv2d,
    plane_conv2d,
    pool,
    quantize,
    repeat_channels,
    sign_conv2d,
    signed_sum_conv2d,
)
from bnncc.ops.registry import bnn, dtype_of, element_count, is_bnn, nbytes_of, reference, static_shape

__all__ = ["bnn", "dtype_of", "element_count", "is_bnn", "nbytes_of", "reference", "static_shape"]

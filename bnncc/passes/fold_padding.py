"""FoldPadding: a pad of codes in front of a binary convolution becomes the convolution's own padding.

::

    p = bnn.pad(c, [1, 1, 1, 1], code=-1)
    n = bnn.conv2d(p, signs)                 ->     n = bnn.conv2d(c, signs, padding=[1, 1, 1, 1], pad_code=-1)
"""

from __future__ import annotations

import tvm
from tvm import relax

from bnncc.ops import bnn, is_bnn
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter

__all__ = ["fold_padding"]


class _FoldPadding(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "conv2d"):
            return None
        pad = builder.values.get(value.args[0]) if isinstance(value.args[0], relax.Var) else None
        attrs = value.attrs
        if not is_bnn(pad, "pad") or pad.attrs.mode != "constant" or (any(attrs.padding) and attrs.pad_code != pad.attrs.code):
            return None
        padding = tuple(a + b for a, b in zip(attrs.padding, pad.attrs.padding, strict=True))
        return bnn.conv2d(pad.args[0], value.args[1], attrs.strides, padding, attrs.dilation, attrs.groups, pad.attrs.code)


def fold_padding(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Merge pads of codes into the convolutions that read them."""
    return _FoldPadding(mod).run()

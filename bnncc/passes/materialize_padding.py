"""MaterializePadding: float convolutions read an input that is padded already, so that their inner loops have no edges.

::

    y = nn.conv2d(x, w, padding=[1, 1, 1, 1])     ->     p = nn.pad(x, [0, 0, 1, 1, 1, 1, 0, 0])
                                                         y = nn.conv2d(p, w)
"""

from __future__ import annotations

import tvm
from tvm.relax import op

from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter, op_name

__all__ = ["materialize_padding"]


class _Materialize(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if op_name(value) != "relax.nn.conv2d" or not any(int(p) for p in value.attrs.padding):
            return None
        a = value.attrs
        top, left, bottom, right = (int(p) for p in a.padding)
        padded = builder.emit(op.nn.pad(value.args[0], [0, 0, top, bottom, left, right, 0, 0]), f"{var.name}_padded")
        return op.nn.conv2d(padded, value.args[1], a.strides, 0, a.dilation, int(a.groups), "NHWC", "HWIO")


def materialize_padding(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Pad the input of every float convolution in a step of its own."""
    return _Materialize(mod).run()

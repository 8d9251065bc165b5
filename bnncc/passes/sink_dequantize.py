"""SinkDequantize: data movement and pooling act on codes, not on the real values they stand for.

Movement does not look at values, so ``move(dequantize(c))`` is ``dequantize(move(c))``; a maximum commutes with a positive scale and becomes a minimum under a
negative one; a constant pad becomes the code of its value. After this pass a binary layer finds its codes right in front of it::

    y = bnn.dequantize(c, 1, 0)              d = strided_slice(c, ...)
    z = strided_slice(y, ...)        ->      z = bnn.dequantize(d, 1, 0)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Tuple

from bnncc.ops import bnn, dtype_of, is_bnn, static_shape
from bnncc.ops.geometry import output_size
from bnncc.passes.code_range import code_range
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, const, constant, op_name

__all__ = ["sink_dequantize", "pool_padding"]

_MOVEMENT = frozenset(
    f"relax.{n}" for n in "reshape permute_dims strided_slice expand_dims squeeze take concat nn.pad nn.max_pool2d broadcast_to image.resize2d".split()
)


def pool_padding(attrs, shape: tuple[int, ...], out_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return top, left, bottom and right padding of an NHWC pool, with what ``ceil_mode`` adds at the end made explicit."""
    top, left, bottom, right = (int(p) for p in attrs.padding)
    extra = []
    for axis, before, after in ((0, top, bottom), (1, left, right)):
        size, kernel, stride, dilation = shape[1 + axis], attrs.pool_size[axis], attrs.strides[axis], attrs.dilation[axis]
        while output_size(size, kernel, stride, dilation, before, after) < out_shape[1 + axis]:
            after += 1
        extra.append(after)
    return top, left, extra[0], extra[1]


class _Sink(ContextRewriter):
    def rewrite(self, var, value, builder: Builder):
        if op_name(value) not in _MOVEMENT:
            return None
        tensors = value.args[0].fields if isinstance(value.args[0], Tuple) else [value.args[0]]
        parts = [builder.values.get(t) for t in tensors if isinstance(t, relax.Var)]
        if len(parts) != len(tensors) or not all(p is not None and is_bnn(p, "dequantize") for p in parts):
            return None
        scale, offset = constant(parts[0].args[1]), constant(parts[0].args[2])
        if scale.ndim or offset.ndim or any(constant(p.args[1]) != scale or constant(p.args[2]) != offset for p in parts):
            return None
        moved = self._on_codes(var, value, [p.args[0] for p in parts], float(scale), float(offset), builder)
        if moved is None:
            return None
        code = builder.emit(moved, f"{var.name}_code")
        if dtype_of(code) == "uint8":
            self.ctx.unsigned_codes.add(code.name)
        view = self.ctx.tensors.get(var.name)
        if view is not None:
            self.ctx.tensors[code.name] = view.rescaled(float(scale), float(offset))
        return bnn.dequantize(code, const(scale), const(offset))

    def _on_codes(self, var, value, codes, scale, offset, builder):
        name, attrs = op_name(value), value.attrs
        if name == "relax.concat":
            return relax.Call(value.op, [Tuple(codes)], attrs)
        if name == "relax.nn.max_pool2d":
            shape = static_shape(codes[0])
            flip = np.full(shape[3], 1 if scale > 0 else -1, np.int8)
            return bnn.max_pool2d(codes[0], const(flip), attrs.pool_size, attrs.strides, pool_padding(attrs, shape, static_shape(var)), attrs.dilation)
        if name == "relax.nn.pad":
            return self._pad(attrs, codes[0], scale, offset, builder)
        if name == "relax.image.resize2d" and attrs.method != "nearest_neighbor":
            return None
        return relax.Call(value.op, [codes[0], *value.args[1:]], attrs)

    def _pad(self, attrs, code, scale, offset, builder):
        width = [int(p) for p in attrs.pad_width]
        if len(width) != 8 or any(width[i] for i in (0, 1, 6, 7)) or min(width) < 0:
            return None
        padding = (width[2], width[4], width[3], width[5])
        if attrs.pad_mode != "constant":
            mode = {"replicate": "edge", "reflect": "reflect"}.get(attrs.pad_mode)
            return bnn.pad(code, padding, mode) if mode else None
        filled = (float(attrs.pad_value) - offset) / scale if scale else 2
        if filled not in (-1, 0, 1):
            limits = np.iinfo(dtype_of(code))
            if code_range(code, builder.values.get).fits_bits or filled != int(filled) or not limits.min <= filled <= limits.max:
                return None
        return bnn.pad(code, padding, "constant", int(filled))


def sink_dequantize(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Move dequantize behind data movement and max pools."""
    return _Sink(mod, ctx).run()

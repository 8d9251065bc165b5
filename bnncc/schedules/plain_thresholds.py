"""Thresholds and packing as plain loops, for schedules that are found by searching them (`traced`); generated kernels never come here."""

from __future__ import annotations

from tvm import relax, te, tirx

from bnncc.ops import static_shape
from bnncc.ops.pack import words_per_group

__all__ = ["PLAIN_THRESHOLDS"]


def _quantize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Legalize ``bnn.quantize``: ``lo + step * #{i : flip * x >= flip * thresholds[i]}``."""
    shape, lo, step = static_shape(call), int(call.attrs.lo), int(call.attrs.step)

    def levels(x, thresholds, flip):
        def read(tensor, index, *leading):
            """Return an element by broadcasting: axes of one element, and axes that are not there, stand for any index."""
            own = tensor.shape[len(leading) :]
            return tensor(*leading, *(0 if int(size) == 1 else at for size, at in zip(own, index[len(index) - len(own) :], strict=True)))

        def level(*index):
            value, rises = read(x, index), read(flip, index) > 0
            count = tirx.const(0, "int32")
            for number in range(int(thresholds.shape[0])):
                threshold = read(thresholds, index, number)
                count = count + tirx.Cast("int32", tirx.Select(rises, value >= threshold, value <= threshold))
            return tirx.Cast("int8", lo + step * count)

        return te.compute(shape, level, "quantize")

    return builder.call_te(levels, *call.args)


def _pack(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Legalize ``bnn.pack``: a word is the sum of its bits at their places."""
    shape, attrs = static_shape(call), call.attrs
    bits, size, word = int(attrs.word_bits), int(attrs.channels) // int(attrs.groups), f"uint{int(attrs.word_bits)}"
    words = words_per_group(int(attrs.channels), int(attrs.groups), bits)

    def packed(codes):
        place = te.reduce_axis((0, bits), "bit")

        def bit(*index):
            plane, rest = tirx.floordiv(index[-1], int(attrs.groups) * words), tirx.floormod(index[-1], int(attrs.groups) * words)
            channel = tirx.floormod(rest, words) * bits + place
            code = tirx.Cast("int32", codes(*index[:-1], tirx.floordiv(rest, words) * size + tirx.min(channel, size - 1)))
            if int(attrs.step):
                digit = tirx.shift_right(tirx.floordiv(code - int(attrs.lo), int(attrs.step)), plane)
                is_set = tirx.EQ(tirx.bitwise_and(digit, tirx.const(1, "int32")), 0)
            else:
                is_set = code < plane
            return te.sum(tirx.shift_left(tirx.Cast(word, tirx.all(is_set, channel < size)), tirx.Cast(word, place)), axis=place)

        return te.compute(shape, bit, "pack")

    return builder.call_te(packed, *call.args)


PLAIN_THRESHOLDS = {"relax.bnn.quantize": _quantize, "relax.bnn.pack": _pack}
"""What may stand behind a float layer in its group, as Relax's legalizations."""

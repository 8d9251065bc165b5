"""Popcount formulation for NEON, whose only popcount is that of bytes: trees of pairwise additions leave a vector of 8 output channels.

Words of the activations are spread over the lanes, words of 8 output channels lie side by side, in as many registers as a word has times 16 bits::

    x ^ w           4 registers of 2 words of 64 bits
    cnt             a byte holds the count of 8 inputs
    addp, addp      neighbours are summed until one register is left: 2 bytes a channel
    uadalp          into 8 counts of 16 bits

Per 128 bits that is one exclusive or, one count, and one addition, as the two of the tree's last steps stand for four of the first. Any sum fits: a byte
reaches 64, and a count 65535, beyond which the plain popcount on wider lanes is used.

Millions of instructions for a whole 3x3 convolution with threshold and packing, C channels at H x H, counted under qemu (benchmarks/arm_instructions.py, code
for the Cortex-A76); of Larq Compute Engine's hand-written assembly 4.20, 3.29, 3.11 and 3.22. Sliced takes more instructions, but fewer vector operations:

=============  =====  ======  ======  =====
shape          64@56  128@28  256@14  512@7
=============  =====  ======  ======  =====
tree           3.38   3.44    3.23    3.14
sliced         8.23   4.24    3.68    3.60
=============  =====  ======  ======  =====

Cycles for 128 bits of the inner loop at 256@14 by llvm-mca 19, never timed: tree 1.63, sliced 1.16 on the Neoverse N1; 1.59, 1.10 on the N2; 0.81, 0.62 on
the V2; 1.16, 0.86 on the Apple M1; 6.18, 5.89 on the Cortex-A55.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.formulations.formulation import BinaryShape, Formulation, register_tiled
from bnncc.schedules.register_tile import Contraction
from bnncc.targets import Variant

__all__ = ["popcount_tree"]

_CHANNELS = 8

# 14 accumulators and the weights of one vector fill 18 of 32 registers; with an eighth pixel LLVM spills. A second word in the same straight line made LLVM hoist its loads and spill;
# words of one tap a pixel leave it nothing to hoist.
_WIDEST, _VECTORS = 7, 2


def popcount_tree(shape: BinaryShape, variant: Variant) -> Formulation | None:
    """Return the tree formulation, or None where the machine is another or counts pass 16 bits."""
    if "cnt" not in variant.instructions or 2 * shape.taps[0] * shape.taps[1] * shape.words * shape.word_bits >= 1 << 16:
        return None
    lane = f"uint{max(16, shape.word_bits)}"
    vectors = min(_VECTORS, -(-shape.outputs // _CHANNELS))
    c = Contraction(
        groups=shape.groups,
        group_outputs=shape.outputs,
        taps=shape.taps,
        depth=shape.words,
        lanes=_CHANNELS,
        acc_dtype="uint16",
        weight_dtype=lane,
        tile_dtype="uint16",
        vectors=vectors,
        step=_step,
        finish=lambda acc: acc,
        planes=shape.planes,
        unrolled_steps=_WIDEST * _VECTORS * shape.taps[1] if shape.words == 1 else 1,
    )

    return register_tiled(shape, c, _WIDEST, "popcount tree")


def _step(acc, x, w):
    """Add the counts of differing bits of 8 words, one a channel."""
    differing = tirx.bitwise_xor(x, w)
    element, _, lanes = str(differing.ty.dtype).partition("x")
    size = int(element.removeprefix("uint")) // 8 * int(lanes)
    octets = tirx.call_intrin(f"uint8x{size}", "tirx.reinterpret", differing)
    parts = [octets] if size == 16 else [tirx.Shuffle([octets], list(range(at, at + 16))) for at in range(0, size, 16)]
    counts = [tirx.popcount(part) for part in parts]
    while len(counts) > 1:
        pairs = zip(counts[::2], counts[1::2], strict=True)
        counts = [tirx.call_llvm_pure_intrin("uint8x16", "llvm.aarch64.neon.addp.v16i8", a, b) for a, b in pairs]
    return acc + tirx.call_llvm_pure_intrin("uint16x8", "llvm.aarch64.neon.uaddlp.v8i16.v16i8", counts[0])

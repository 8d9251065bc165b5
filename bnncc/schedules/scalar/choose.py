"""Which formulation a binary layer of a processor without vectors gets, by what the user asks for and what each costs.

=======  ==================================================================================================================
speed    sliced with lanes of pixels or of channels, or the tree: what takes the fewest instructions
flash    lanes of pixels with cases as nibbles (2 bits a weight), or the tree (1 bit): what takes the fewest instructions
ram      the tree: no tables, neither in RAM nor in flash
=======  ==================================================================================================================

Costs are instructions of Thumb-2, as counted under QEMU; those of other processors are larger in nearly the same proportion. With Helium a row is that of four
words, of blocks of pixels one above the other or of 128 channels: late convolutions that leave words of the one empty fill those of the other.
"""

from __future__ import annotations

from collections.abc import Callable

from bnncc.schedules.builder import Builder
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.majority import row_count
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.scalar.channel_table import LAST_ROWS, queue_words, triples
from bnncc.schedules.scalar.pixel_blocks import LANES, PixelBlocks
from bnncc.schedules.scalar.sliced_channels import sliced_channels
from bnncc.schedules.scalar.sliced_pixels import sliced_pixels
from bnncc.schedules.scalar.threshold import find_threshold
from bnncc.schedules.scalar.words import VECTOR_WORDS

__all__ = ["sliced_kernel"]

_ROW = 7.3  # of a table: load the case, load the word, a full adder
_NIBBLE_ROW = 8.4
_MADE_ROW = 17.0
_TRANSPOSITION = 560
_TREE_WORD = 9.7
_TREE_OUTPUT = 40  # back-transform, threshold, bit
_READ_WORD = 7
_SPREAD_TRIPLE = 75
_OUTPUT = 60  # start of the counters and answer

_VECTOR_ROW = 8.7  # of four words each, with Helium
_MADE_VECTOR_ROW = 55.0

_MOST_COUNT_BYTES = 16 * 1024
_MOST_INPUTS = 1 << 16


def sliced_kernel(builder: Builder, anchor: Tensor, shape: BinaryShape, length: int, word_at: Callable, border: Callable | None) -> Kernel | None:
    """Return the kernel of a convolution or dense layer where a sliced one is to be taken, else None.

    Parameters
    ----------
    length : int
        K, real inputs of a dot product.
    word_at : callable
        ``word_at(place, plane, group, kh, kw, k)``: word k of a group of the input.
    border : callable, optional
        ``border(index, lanes)``: what is added at a place.
    """
    wanted = builder.variant.optimize_for
    planes = int(anchor.attrs.planes)
    if wanted == "ram" or anchor.args[0] not in builder.buffers or length * planes >= _MOST_INPUTS:
        return None
    outputs = anchor.size
    found = {"tree": (outputs * (shape.words * shape.taps[0] * shape.taps[1] * _TREE_WORD + _TREE_OUTPUT), None)}
    if wanted == "speed":
        found["sliced channels"] = _with_channels(builder, anchor, shape, length, word_at, border)
    if len(anchor.shape) == 4 and int(anchor.attrs.in_groups) == shape.groups:  # each group starts a word
        found |= _with_pixels(builder, anchor, shape, wanted == "flash")
    name = builder.choices.choose("formulation", min(found, key=lambda name: found[name][0]), tuple(found))
    make = found[name][1]
    return make and make()


def _with_channels(builder: Builder, anchor: Tensor, shape: BinaryShape, length: int, word_at: Callable, border: Callable | None) -> tuple:
    """Return cost and maker of the kernel with lanes of channels."""
    threshold = find_threshold(builder, anchor, shape, length) if shape.groups == 1 else None
    if threshold is not None and threshold.layout.groups > 1:
        threshold = None
    words = queue_words(shape.taps[0] * shape.taps[1], shape.inputs, shape.word_bits)
    rows = LANES * triples(words) + LAST_ROWS
    vectors, row = -(-shape.outputs // LANES), _ROW
    if threshold is not None and "mve" in builder.variant.instructions and vectors >= VECTOR_WORDS:
        vectors, row = -(-vectors // VECTOR_WORDS), _VECTOR_ROW
    made = shape.taps[0] * shape.taps[1] * shape.words * _READ_WORD + triples(words) * _SPREAD_TRIPLE + 2 * _SPREAD_TRIPLE
    answers = 0 if threshold else vectors * _TRANSPOSITION + shape.outputs * _TREE_OUTPUT
    pixel = shape.groups * (made + vectors * (rows * row + _OUTPUT) + answers)
    pixels = anchor.size // anchor.shape[-1]
    return pixels * pixel, lambda: sliced_channels(builder, anchor, shape, length, word_at, border, threshold)


def _with_pixels(builder: Builder, anchor: Tensor, shape: BinaryShape, nibbles: bool) -> dict:
    """Return cost and maker of the kernel with lanes of pixels, by its name; nothing where it does not take the layer."""
    _, height, breadth, channels = anchor.shape
    (sy, sx), dx = (int(v) for v in anchor.attrs.strides), int(anchor.attrs.dilation[1])
    threshold = find_threshold(builder, anchor, shape, shape.inputs * shape.taps[0] * shape.taps[1])
    is_wide = threshold is not None and "mve" in builder.variant.instructions and not nibbles and shape.word_bits == LANES
    words = VECTOR_WORDS if is_wide else 1
    # pixels have no neighbours, and their words follow one another in input and output
    alone = shape.taps == (sy, sx) == (1, 1) and anchor.args[0].shape[1:3] == (height, breadth) and not anchor.args[2:]
    if alone and threshold is not None and builder.pool is None:
        blocks = PixelBlocks.of_any_shape(height, breadth, words)
    else:
        blocks = PixelBlocks.of(height, breadth, (shape.taps[1] - 1) * dx // sx, words)
    if blocks is None or (threshold is None and LANES * 2 * channels > _MOST_COUNT_BYTES):
        return {}
    rows = row_count(shape.taps[0] * shape.taps[1]) * shape.inputs + row_count(shape.inputs)
    row, made = (_VECTOR_ROW, _MADE_VECTOR_ROW) if blocks.stacked > 1 else (_NIBBLE_ROW if nibbles else _ROW, _MADE_ROW)
    table = shape.groups * (rows * made + shape.inputs * shape.taps[0] * shape.taps[1] * (2 * blocks.rows - 1))
    phases = min(sx, shape.taps[1])
    reading = blocks.rows * min(sy, shape.taps[0]) * phases * shape.groups * shape.words * _TRANSPOSITION
    writing = -(-channels // LANES) * _TRANSPOSITION if threshold else channels * (_TRANSPOSITION / 2 + LANES * _TREE_OUTPUT)
    block = reading + table + channels * (rows * row + _OUTPUT) + writing
    cost = anchor.shape[0] * blocks.down * blocks.across * block
    return {"sliced pixels": (cost, lambda: sliced_pixels(builder, anchor, shape, blocks, threshold, nibbles))}

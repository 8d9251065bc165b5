"""How the table of the sliced formulation lies in memory: [vectors that share a row][row][case of eight][vector][bytes of a vector].

Many pixels read all cases of a row, and one vector of channels after the other has rows of its own. A single pixel reads one case of eight, at places that no
prefetcher foresees: each takes a whole cache line, of which a vector of 256 channels uses half. So vectors share a row there, as many as fill two lines for
each case. One pixel reads half a bit for each weight then, half of what packed weights have.

GMAC/s of 1, 2 and 4 vectors a case on AVX2 (Zen 3, one thread, lines of the cases asked for ahead; prototype in C, bytes of the table, where it comes from):
1024 to 1024 (512 KB, L2) 530, 590, 620; in turns with five others (L3) 330, 580, 600; 2048 to 2048 (2 MB) 375, 575, 580; popcount of packed weights 260 to 300.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.sliced_table import queue_words, row_count, table, word_parts
from bnncc.schedules.register_tile import LINE_BYTES, Contraction
from bnncc.targets import Variant

__all__ = ["FEW_PIXELS", "arrange_table", "shape_words", "sliced_contraction", "table_bytes"]

FEW_PIXELS = 8
"""Fewer read so little of a row that vectors of channels share it.

GMAC/s of 1, 2 and 4 vectors a case: 512 to 512 channels, 4 pixels 610, 738, 725, 9 pixels 645, 555, 553; 1024 to 1024, 4 pixels 496, 691, 609.
"""

_CASE_BYTES = 2 * LINE_BYTES

_SHARED_BYTES = 1024 * 1024
"""Of a table that threads may share: some vectors of channels for each."""


def shape_words(shape: BinaryShape) -> int:
    """Return how many words of 64 bits all taps of a group fill."""
    return queue_words(shape.taps[0] * shape.taps[1], shape.inputs, shape.word_bits)


def sliced_contraction(shape: BinaryShape, variant: Variant, choices: Choices | None) -> Contraction:
    """Return the shape of the lookups: a step is a row of the table, and `vectors` share it."""
    inputs, lanes = shape.taps[0] * shape.taps[1] * shape.inputs, variant.vector_bits
    c = shape.contraction(
        taps=(1, 1),
        depth=row_count(shape_words(shape)),  # rows of the table; a row has as many bytes as lanes
        lanes=lanes,
        acc_dtype="uint64",
        weight_dtype="uint8",
        tile_dtype="uint16" if 2 * inputs < 1 << 16 else "int32",
        vectors=1,
    )
    most = _CASE_BYTES * 8 // lanes if variant.indexed_offsets else 1
    options = [n for n in range(1, most + 1) if n & n - 1 == 0 and c.group_vectors % n == 0]
    parts = 2 if table_bytes(c) >= _SHARED_BYTES else 1
    few = [n for n in options if n == 1 or c.group_vectors // n >= parts] if shape.pixels < FEW_PIXELS else [1]
    return replace(c, vectors=choose(choices, "sliced vectors", few[-1], options))


def table_bytes(c: Contraction) -> int:
    """Return the size of the whole table."""
    return c.depth * c.lanes * c.group_vectors * c.groups


def arrange_table(words: np.ndarray, c: Contraction, shape: BinaryShape, in_order: bool) -> np.ndarray:
    """Build the tables of all vectors of all groups from packed weights of shape (outputs, KH, KW, words)."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1, shape.words, shape.word_bits // 8)
    parts = [octets[:, :, first : first + count, : bits // 8].reshape(len(words), -1) for first, count, bits in word_parts(shape.inputs, shape.word_bits)]
    whole = np.concatenate([np.pad(part, ((0, 0), (0, -part.shape[1] % 8))) for part in parts], axis=1)
    padded = np.zeros((c.groups, c.group_vectors * c.lanes, 8 * shape_words(shape)), np.uint8)
    padded[:, : c.group_outputs] = whole.reshape(c.groups, c.group_outputs, -1)
    tables = [table(vector, c.lanes, in_order) for vector in padded.reshape(-1, c.lanes, padded.shape[-1])]
    return np.stack(tables).reshape(-1, c.vectors, c.depth * 8, c.lanes // 8).swapaxes(1, 2).reshape(-1)

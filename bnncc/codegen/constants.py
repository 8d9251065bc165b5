"""Constants: one blob of distinct contents, shared by all entries and variants of a library."""

from __future__ import annotations

import hashlib

import numpy as np

from bnncc.codegen.arena import ALIGNMENT

__all__ = ["ConstantPool"]


class ConstantPool:
    """Collects arrays and gives each distinct content one offset.

    Equal bytes share an offset whatever their shape and dtype: a kernel sees a raw pointer.
    """

    def __init__(self):
        self._offsets: dict[bytes, int] = {}
        self._blob = bytearray()

    def add(self, array: np.ndarray) -> int:
        """Return the offset in bytes of the array's content, a multiple of the alignment."""
        content = np.ascontiguousarray(array).tobytes()
        key = hashlib.sha256(content).digest()
        if key not in self._offsets:
            self._blob.extend(bytes(-len(self._blob) % ALIGNMENT))
            self._offsets[key] = len(self._blob)
            self._blob.extend(content)
        return self._offsets[key]

    @property
    def nbytes(self) -> int:
        """Size of the blob in bytes."""
        return len(self._blob)

    def tobytes(self) -> bytes:
        """Return the blob."""
        return bytes(self._blob)

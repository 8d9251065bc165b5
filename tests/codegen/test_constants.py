"""Constants are stored once by content."""

from __future__ import annotations

import numpy as np

from bnncc.codegen.constants import ConstantPool


def test_equal_bytes_share_an_offset_whatever_their_type():
    pool = ConstantPool()
    array = np.arange(6, dtype=np.float32)
    first = pool.add(array)
    assert pool.add(array.reshape(2, 3)) == first
    assert pool.add(array.view(np.uint32)) == first
    assert pool.nbytes == 24


def test_different_bytes_lie_apart_and_aligned():
    pool = ConstantPool()
    arrays = [np.arange(n, dtype=np.int16) for n in (3, 40, 1)]
    offsets = [pool.add(array) for array in arrays]
    assert offsets == [0, 64, 192]
    blob = pool.tobytes()
    for array, offset in zip(arrays, offsets, strict=True):
        assert blob[offset : offset + array.nbytes] == array.tobytes()


def test_a_transposed_array_is_stored_in_its_own_order():
    pool = ConstantPool()
    array = np.arange(6, dtype=np.int8).reshape(2, 3).T
    pool.add(array)
    assert pool.tobytes() == bytes([0, 3, 1, 4, 2, 5])

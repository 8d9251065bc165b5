"""A compiled layer called many times without Python between, with other inputs each time: a dense layer takes less than a call from Python does."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
from layers import CompiledGroup, Layer, words

__all__ = ["RepeatedLayer"]

_INPUT_BYTES = 32 * 1024
"""Of all inputs, in the L1 cache."""
_MOST_INPUTS = 16

# A kernel takes 5 to 8 pointers; of more arguments than a function takes the x86-64 ABI says nothing but who removes them, the caller.
_SOURCE = """
#include <stdint.h>
#include <time.h>
typedef void kernel(const char *, void *, void *, void *, void *, void *, void *, void *);
double repeat(kernel *run, const char *x, long stride, long inputs, void *const *rest, long count)
{
    struct timespec from, to;

    clock_gettime(CLOCK_MONOTONIC, &from);
    for (long i = 0; i < count; i++)
        run(x + stride * (i % inputs), rest[0], rest[1], rest[2], rest[3], rest[4], rest[5], rest[6]);
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
}
"""


class RepeatedLayer:
    """A layer's kernel on prepared weights and some random inputs.

    Parameters
    ----------
    layer : Layer
    kernel : CompiledGroup
        Of ``layer.build()``.
    arrays : list of ndarray
        Its operands.
    folder : Path
        For the loop.
    """

    def __init__(self, layer: Layer, kernel: CompiledGroup, arrays: list[np.ndarray], folder: Path):
        library = folder / "repeat.so"
        if not library.exists():
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=_SOURCE, text=True, check=True)
        self._repeat = ctypes.CDLL(str(library)).repeat
        self._repeat.restype = ctypes.c_double
        ready = kernel.prepare(arrays)
        size = -(-ready[0].nbytes // 64) * 64
        self._inputs, rng = max(1, min(_MOST_INPUTS, _INPUT_BYTES // size)), np.random.default_rng(1)
        room = np.zeros((self._inputs + 1) * size, np.uint8)
        start = -room.ctypes.data % 64
        for i in range(self._inputs):
            x = words(rng, arrays[0].shape[:-1], 64, layer.inputs, layer.groups)
            room[start + i * size : start + i * size + x.nbytes] = x.reshape(-1).view(np.uint8)
        self._x, self._stride = room[start:], size
        results = [np.zeros(shape, dtype) for shape, dtype in kernel.outputs]
        self._bound = kernel.bound(ready, results)
        rest = [getattr(argument, "value", argument) for argument in self._bound.args[1:]]
        self._rest = (ctypes.c_void_p * 7)(*rest, *[0] * (7 - len(rest)))

    def __call__(self, count: int) -> float:
        """Run `count` times, with one input after the other, and return the seconds."""
        x = ctypes.c_void_p(self._x.ctypes.data)
        return self._repeat(self._bound.func, x, ctypes.c_long(self._stride), ctypes.c_long(self._inputs), self._rest, ctypes.c_long(count))

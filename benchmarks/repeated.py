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

_SOURCE = """
#include <stdint.h>
#include <time.h>
typedef void kernel(const char *{types});
double repeat(kernel *run, const char *x, long stride, long inputs, void *const *rest, long count)
{{
    struct timespec from, to;

    clock_gettime(CLOCK_MONOTONIC, &from);
    for (long i = 0; i < count; i++)
        run(x + stride * (i % inputs){values});
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
}}
"""


def _loop(count: int, folder: Path):
    """Return the C function that calls kernels of so many pointers behind the input."""
    library = folder / f"repeat{count}.so"
    if not library.exists():
        source = _SOURCE.format(types=", void *" * count, values="".join(f", rest[{i}]" for i in range(count)))
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=source, text=True, check=True)
    repeat = ctypes.CDLL(str(library)).repeat
    repeat.restype = ctypes.c_double
    return repeat


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
        self._rest = (ctypes.c_void_p * len(rest))(*rest)
        self._repeat = _loop(len(rest), folder)

    def __call__(self, count: int) -> float:
        """Run `count` times, with one input after the other, and return the seconds."""
        x = ctypes.c_void_p(self._x.ctypes.data)
        return self._repeat(self._bound.func, x, ctypes.c_long(self._stride), ctypes.c_long(self._inputs), self._rest, ctypes.c_long(count))

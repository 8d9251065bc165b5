"""Build a call of the dialect on arrays, check that it prints and parses, and evaluate it; an independent convolution to compare with."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

import bnncc.ops  # noqa: F401 (registers the dialect)
from bnncc.ops.interpreter import run_module

__all__ = ["CHANNELS", "call_type", "evaluate", "module_of", "naive_conv2d", "signs", "word_of"]

CHANNELS = [1, 31, 32, 33, 63, 64, 65, 127, 128, 129]


def signs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw int8 codes of -1 and +1."""
    return rng.choice(np.array([-1, 1], np.int8), shape)


def module_of(build, *arrays: np.ndarray, **attributes) -> tvm.IRModule:
    """Return a module whose main is one call."""
    params = [relax.Var(f"a{i}", relax.TensorType(a.shape, str(a.dtype))) for i, a in enumerate(arrays)]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            out = builder.emit_output(build(*params, **attributes))
        builder.emit_func_output(out)
    return builder.get()


def call_type(build, *types: tuple[tuple[int, ...], str], **attributes) -> relax.Type:
    """Infer the type of a call on tensors of these shapes and dtypes; errors of the type rule come through."""
    call = build(*(relax.Var(f"a{i}", relax.TensorType(*t)) for i, t in enumerate(types)), **attributes)
    return relax.BlockBuilder().normalize(call).ty


def evaluate(build, *arrays: np.ndarray, **attributes) -> np.ndarray:
    """Return the NumPy meaning of a call; its module also has to survive printing and parsing, and the result to have the inferred type."""
    mod = module_of(build, *arrays, **attributes)
    tvm.ir.assert_structural_equal(mod, tvm.script.from_source(mod.script(show_meta=True)))
    return run_module(mod, *arrays)


def word_of(codes: list[int]) -> int:
    """Pack codes of one word by hand: bit j is set where code j is -1."""
    return sum(1 << j for j, code in enumerate(codes) if code == -1)


def naive_conv2d(x: np.ndarray, w: np.ndarray, strides, padding, dilation, groups: int, fill: int) -> np.ndarray:
    """Convolve NHWC with OHWI tap by tap, position by position."""
    top, left, bottom, right = padding
    n, h, width, _ = x.shape
    co, kh, kw, ci = w.shape
    oh = (h + top + bottom - dilation[0] * (kh - 1) - 1) // strides[0] + 1
    ow = (width + left + right - dilation[1] * (kw - 1) - 1) // strides[1] + 1
    out = np.zeros((n, oh, ow, co), np.int64)
    for o in range(co):
        first = o // (co // groups) * ci
        for y in range(oh):
            for z in range(ow):
                for i in range(kh):
                    for j in range(kw):
                        row, col = y * strides[0] - top + i * dilation[0], z * strides[1] - left + j * dilation[1]
                        inside = 0 <= row < h and 0 <= col < width
                        taps = x[:, row, col, first : first + ci] if inside else np.full((n, ci), fill)
                        out[:, y, z, o] += (taps.astype(np.int64) * w[o, i, j]).sum(1)
    return out

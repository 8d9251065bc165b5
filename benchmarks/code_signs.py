"""Layers of signs on small integers: bit planes, int16 pairs and sums looked up by signs, in turns, fastest runs, one thread. Each has thresholds and what the
next such layer reads as output.

    python benchmarks/code_signs.py [v2|v3]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.passes.bit_planes import code_planes, weight_planes
from bnncc.passes.code_range import CodeRange
from bnncc.targets.x86 import V2, V3

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "schedules"))
from group_runner import CompiledGroup, group  # noqa: E402

SHAPES = ((32, 28), (64, 28), (128, 28), (256, 14), (512, 7), (64, 32), (128, 16), (256, 16), (512, 8), (512, 4))
BITS = (2, 3, 4, 8)


def layers(channels: int, size: int, bits: int, folder: Path, variant):
    """Return calls of the layer on planes, in int16 and in sums by signs, and its multiply-accumulates."""
    rng = np.random.default_rng(0)
    top = (1 << bits) - 1
    x = rng.integers(0, top + 1, (1, size + 2, size + 2, channels)).astype(np.uint8 if bits == 8 else np.int8)
    w = rng.choice(np.array([-1, 1], np.int8), (channels, 3, 3, channels))
    levels = min(top, 15)  # a byte is stored as it is
    thresholds, flip = np.sort(rng.integers(-50, 50, (levels, channels)), axis=0).astype(np.int32), np.ones(channels, np.int8)
    p, q = code_planes(CodeRange(0, top, 1)), weight_planes(w)
    flat = w.reshape(channels, -1).astype(np.int64)
    bias = (flat.shape[1] * sum(p.scales) * sum(q.scales) // 2 + p.offset * flat.sum(1)).astype(np.int32)
    words = pack_reference(PackAttrs(channels, 1, 64, p.count, p.lo, p.step), x)
    filters = pack_reference(PackAttrs(channels, 1, 64), w)

    def on_planes(b, x, w, bias, t, f):
        n = b.emit(bnn.plane_conv2d(x, w, bias, channels=channels, input_scales=p.scales, weight_scales=q.scales))
        return bnn.pack(b.emit(bnn.quantize(n, t, f, 0, 1)), channels, 1, 64, min(p.count, 4), 0, 1)

    def on_integers(b, x, w, t, f):
        return relax.op.astype(b.emit(bnn.quantize(b.emit(bnn.conv2d(x, w)), t, f, 0, 1)), "int16")

    def by_signs(b, x, w, t, f):
        return bnn.quantize(b.emit(bnn.sign_conv2d(x, w, codes=(0, top, 1))), t, f, 0, 1)

    made = []
    kinds = (
        (on_planes, [words, filters, bias, thresholds, flip]),
        (on_integers, [x.astype(np.int16), w, thresholds, flip]),
        (by_signs, [x, filters, thresholds, flip]),
    )
    for emit, arrays in kinds:
        function = group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=tuple(range(1, len(arrays))))
        where = folder / f"{variant.name}_{channels}_{size}_{bits}_{len(made)}"
        where.mkdir()
        kernel = CompiledGroup(function, where, variant)
        made.append(kernel.bound(kernel.prepare(arrays), [np.zeros(shape, dtype) for shape, dtype in kernel.outputs]))
    return made, w.size * size * size


def main() -> None:
    """Print a row a shape: 10^9 multiply-accumulates a second."""
    variant = V2 if "v2" in sys.argv[1:] else V3
    print("| shape | bits | planes | int16 | sums |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for channels, size in SHAPES:
            for bits in BITS:
                calls, macs = layers(channels, size, bits, Path(temporary), variant)
                best = [float("inf")] * len(calls)
                for _ in range(100):
                    for i, call in enumerate(calls):
                        start = time.perf_counter()
                        call()
                        best[i] = min(best[i], time.perf_counter() - start)
                print(f"| {channels}@{size} | {bits} | " + " | ".join(f"{macs / seconds / 1e9:.1f}" for seconds in best) + " |", flush=True)


if __name__ == "__main__":
    main()

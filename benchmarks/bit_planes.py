"""What a pair of bit planes costs beside int16 arithmetic: the same 3x3 layers through both, in turns, medians; calibrates
`bnncc.passes.plane_costs.VECTORS`.

    python benchmarks/bit_planes.py
"""

from __future__ import annotations

import statistics
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

SHAPES = ((32, 28), (64, 28), (128, 14), (256, 14), (512, 7))
KINDS = {1: (1, [-1, 1]), 2: (1, [-1, 0, 1]), 4: (2, [-1, 0, 1]), 6: (3, [-1, 0, 1]), 8: (2, [-3, -2, -1, 0, 1, 2, 3])}


def layers(channels: int, size: int, bits: int, values: list[int], folder: Path, variant):
    """Return calls of the layer on planes and in int16, each with thresholds and what the next such layer reads as output."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 1 << bits, (1, size + 2, size + 2, channels)).astype(np.int8)
    w = rng.choice(np.array(values), (channels, 3, 3, channels)).astype(np.int8)
    thresholds, flip = np.sort(rng.integers(-50, 50, ((1 << bits) - 1, channels)), axis=0).astype(np.int32), np.ones(channels, np.int8)
    p, q = code_planes(CodeRange(0, (1 << bits) - 1, 1)), weight_planes(w)
    flat = w.reshape(channels, -1).astype(np.int64)
    bias = (flat.shape[1] * sum(p.scales) * sum(q.scales) // 2 + p.offset * flat.sum(1)).astype(np.int32)
    words = pack_reference(PackAttrs(channels, 1, 64, p.count, p.lo, p.step), x)
    filters = pack_reference(PackAttrs(channels, 1, 64), q.signs.reshape(-1, 3, 3, channels))

    def on_planes(b, x, w, bias, t, f):
        n = b.emit(bnn.plane_conv2d(x, w, bias, channels=channels, input_scales=p.scales, weight_scales=q.scales))
        return bnn.pack(b.emit(bnn.quantize(n, t, f, 0, 1)), channels, 1, 64, p.count, 0, 1)

    def on_integers(b, x, w, t, f):
        return relax.op.astype(b.emit(bnn.quantize(b.emit(bnn.conv2d(x, w)), t, f, 0, 1)), "int16")

    made = []
    for emit, arrays in ((on_planes, [words, filters, bias, thresholds, flip]), (on_integers, [x.astype(np.int16), w, thresholds, flip])):
        function = group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=tuple(range(1, len(arrays))))
        where = folder / f"{variant.name}_{channels}_{size}_{bits}_{len(values)}_{len(made)}"
        where.mkdir()
        made.append((CompiledGroup(function, where, variant), arrays))
    return made


def main() -> None:
    """Print the cost of planes as a multiple of int16 arithmetic."""
    print(f"{'variant':8} {'shape':8} " + " ".join(f"{pairs:>2} pairs" for pairs in KINDS))
    with tempfile.TemporaryDirectory() as name:
        for variant in (V3, V2):
            for channels, size in SHAPES:
                ratios = []
                for bits, values in KINDS.values():
                    made = layers(channels, size, bits, values, Path(name), variant)
                    times: list[list[float]] = [[], []]
                    ready = [kernel.prepare(arrays) for kernel, arrays in made]
                    results = [[np.zeros(shape, dtype) for shape, dtype in kernel.outputs] for kernel, _ in made]
                    for _ in range(31):
                        for i, (kernel, _) in enumerate(made):
                            start = time.perf_counter()
                            kernel.call(ready[i], results[i])
                            times[i].append(time.perf_counter() - start)
                    ratios.append(statistics.median(times[0]) / statistics.median(times[1]))
                print(f"{variant.name:8} {f'{channels}@{size}':8} " + " ".join(f"{ratio:8.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()

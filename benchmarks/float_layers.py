"""Float and int16 layers alone beside onnxruntime in float32: 10^9 multiply-accumulates a second, in turns, fastest runs, one thread.

    python benchmarks/float_layers.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from sign_weights import kernel, reference
from tvm import relax

from bnncc.ops import bnn
from bnncc.targets.x86 import native_variant

SHAPES = ((3, 64, 112, 7), (64, 64, 56, 3), (128, 128, 28, 3), (256, 256, 14, 3), (512, 512, 7, 3), (64, 128, 28, 1), (512, 512, 14, 1), (1024, 1024, 7, 1))
"""Input channels, output channels, size of the image and of the kernel."""
SECONDS = 1.5


def layers(shape: tuple[int, ...], folder: Path):
    """Return calls by name, and the multiply-accumulates of each."""
    inputs, outputs, size, taps = shape
    rng = np.random.default_rng(0)
    x = rng.integers(0, 16, (1, size + taps - 1, size + taps - 1, inputs)).astype(np.int16)
    w = rng.integers(-7, 8, (outputs, taps, taps, inputs)).astype(np.int8)
    real, weights = x.astype(np.float32), w.astype(np.float32)
    folder.mkdir()
    conv = lambda b, x, w: relax.op.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO")  # noqa: E731
    calls = {
        "float": kernel(conv, real, np.ascontiguousarray(weights.transpose(1, 2, 3, 0)), folder / "float", native_variant()),
        "int16": kernel(lambda b, x, w: bnn.conv2d(x, w), x, w, folder / "int16", native_variant()),
        "onnxruntime": reference("Conv", *(np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (real, weights))),
    }
    return calls, w.size * size * size


def main() -> None:
    """Print a row a shape."""
    print("| layer | float | int16 | onnxruntime float32 |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for number, shape in enumerate(SHAPES):
            calls, macs = layers(shape, Path(temporary) / str(number))
            best, end = dict.fromkeys(calls, float("inf")), time.monotonic() + SECONDS
            while time.monotonic() < end:
                for name, call in calls.items():
                    start = time.perf_counter()
                    call()
                    best[name] = min(best[name], time.perf_counter() - start)
            inputs, outputs, size, taps = shape
            cells = " | ".join(f"{macs / seconds / 1e9:.1f}" for seconds in best.values())
            print(f"| {taps}x{taps} {inputs} to {outputs}@{size} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

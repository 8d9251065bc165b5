"""Float layers whose weights are signs: bits expanded in the kernel beside float weights and onnxruntime, in turns, fastest runs, one thread.

    python benchmarks/sign_weights.py [v2|v3]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.targets.x86 import V2, V3

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "schedules"))
from group_runner import CompiledGroup, group  # noqa: E402

SHAPES = ((3, 64, 56, 3), (16, 16, 32, 3), (64, 64, 28, 3), (128, 128, 28, 3), (256, 256, 14, 3), (512, 512, 7, 3), (1024, 1024), (4096, 1000))
"""Input channels, output channels, size of the image and the kernel; of dense layers inputs and outputs."""


def reference(kind: str, x: np.ndarray, w: np.ndarray):
    """Return a call of onnxruntime."""
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node(kind, ["x", "w"], ["y"])], "layer", *values, [numpy_helper.from_array(w, "w")])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def kernel(emit, x: np.ndarray, w: np.ndarray, folder: Path, variant):
    """Return a call of a compiled kernel."""
    folder.mkdir()
    made = CompiledGroup(group(emit, *((a.shape, str(a.dtype)) for a in (x, w)), constants=(1,)), folder, variant)
    ready, results = made.prepare([x, w]), [np.zeros(shape, dtype) for shape, dtype in made.outputs]
    return lambda: made.call(ready, results)


def layers(shape: tuple[int, ...], folder: Path, variant):
    """Return the three calls and the multiply-accumulates of each."""
    rng = np.random.default_rng(0)
    inputs, outputs, size, taps = (*shape, 1, 1)[:4]
    signs = rng.choice(np.array([-1, 1], np.int8), (outputs, taps, taps, inputs))
    x = rng.standard_normal((1, size + taps - 1, size + taps - 1, inputs)).astype(np.float32)
    real, macs = signs.astype(np.float32), signs.size * size * size
    words = pack_reference(PackAttrs(inputs, 1, 64), signs)
    if len(shape) == 2:
        x, real, words = x[0, 0], np.ascontiguousarray(real[:, 0, 0].T), words[:, 0, 0]
        kernels = (lambda b, x, w: relax.op.matmul(x, w), real), (lambda b, x, w: bnn.sign_dense(x, w), words)
        theirs = reference("MatMul", x, real)
    else:
        hwio = np.ascontiguousarray(real.transpose(1, 2, 3, 0))
        kernels = (lambda b, x, w: relax.op.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO"), hwio), (lambda b, x, w: bnn.sign_conv2d(x, w), words)
        theirs = reference("Conv", *(np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (x, real)))
    name = "_".join(map(str, shape))
    return [theirs, *(kernel(emit, x, w, folder / f"{name}_{i}", variant) for i, (emit, w) in enumerate(kernels))], macs


def main() -> None:
    """Print a row a shape: 10^9 multiply-accumulates a second."""
    variant = V2 if "v2" in sys.argv[1:] else V3
    print("| shape | onnxruntime | float weights | signs |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for shape in SHAPES:
            calls, macs = layers(shape, Path(temporary), variant)
            repeats, best = max(1, int(2e7 // macs)), [float("inf")] * len(calls)
            for _ in range(40):
                for i, call in enumerate(calls):
                    start = time.perf_counter()
                    for _ in range(repeats):
                        call()
                    best[i] = min(best[i], (time.perf_counter() - start) / repeats)
            print(f"| {' x '.join(map(str, shape))} | " + " | ".join(f"{macs / seconds / 1e9:.1f}" for seconds in best) + " |", flush=True)


if __name__ == "__main__":
    main()

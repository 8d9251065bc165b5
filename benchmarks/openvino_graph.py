"""Write Bi-Real-18 at 224x224 as an OpenVINO graph that its CPU plugin runs as BinaryConvolution, which no importer of OpenVINO's makes.

    python benchmarks/openvino_graph.py FOLDER          # FOLDER/bireal18_224.xml and .bin
    bnncc benchmark out/ --against openvino=FOLDER/bireal18_224.xml

A sign is a FakeQuantize of two levels; a convolution of +-1 weights behind it becomes binary. Weights are random: the same work, not the same network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

__all__ = ["bireal18", "main"]


def bireal18(size: int = 224):
    """Return the graph as an openvino.Model; its input ``x`` is float32[1, 3, size, size]."""
    import openvino
    from openvino import opset8 as op

    rng = np.random.default_rng(0)

    def normal(*shape: int):
        return op.constant(rng.standard_normal(shape).astype(np.float32) * np.float32(0.1))

    def convolution(x, inputs: int, outputs: int, kernel: int, stride: int = 1):
        padding = [kernel // 2] * 2
        y = op.convolution(x, normal(outputs, inputs, kernel, kernel), [stride] * 2, padding, padding, [1, 1])
        return op.add(y, normal(1, outputs, 1, 1))

    def binary_convolution(x, inputs: int, outputs: int, stride: int):
        border, minus, plus = normal(1, inputs, 1, 1), op.constant(np.float32(-1)), op.constant(np.float32(1))
        signs = op.fake_quantize(x, border, border, minus, plus, 2)
        weights = op.constant(rng.choice(np.array([-1, 1], np.float32), (outputs, inputs, 3, 3)))
        y = op.convolution(signs, weights, [stride] * 2, [1, 1], [1, 1], [1, 1])
        return op.add(op.multiply(y, normal(1, outputs, 1, 1)), normal(1, outputs, 1, 1))

    x = op.parameter([1, 3, size, size], np.float32, name="x")
    x.output(0).set_names({"x"})
    y = op.max_pool(convolution(x, 3, 64, 7, 2), [2, 2], [1, 1], [1, 1], [1, 1], [3, 3], "floor", "explicit").output(0)
    inputs = 64
    for outputs in (64, 128, 256, 512):
        for block in range(4):
            stride = 2 if block == 0 and outputs > 64 else 1
            shortcut = y
            if stride == 2:
                shortcut = convolution(op.avg_pool(y, [2, 2], [0, 0], [0, 0], [2, 2], False, "floor", "explicit"), inputs, outputs, 1)
            y = op.add(binary_convolution(y, inputs, outputs, stride), shortcut)
            inputs = outputs
    y = op.reduce_mean(y, op.constant(np.array([2, 3])), False)
    y = op.add(op.matmul(y, normal(512, 1000), False, False), normal(1, 1000))
    return openvino.Model([op.result(y)], [x], "bireal18_224")


def main() -> None:
    """Write the files, and say how many binary convolutions the CPU plugin makes of them."""
    import openvino

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    path = parser.parse_args().folder / "bireal18_224.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    model = bireal18()
    openvino.save_model(model, path, compress_to_fp16=False)
    made = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).get_runtime_model().get_ops()
    kinds = [str(node.get_rt_info()["layerType"].astype(str)) for node in made]
    print(f"{path}: {kinds.count('BinaryConvolution')} of its layers are run as BinaryConvolution")


if __name__ == "__main__":
    main()

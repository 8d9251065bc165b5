"""A small binary network for the tests of inspect and verify, and ways to break what was compiled from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnncc.compiler import compile
from bnncc.passes.rewrite import Rewriter, const, constant

SHAPE = (1, 3, 6, 6)


def binary_network(seed: int = 0) -> onnx.ModelProto:
    """Return a float Conv, two binary ones with BatchNorm (70 and 9 channels) and a binary Gemm (5 classes); x >= 0 in front of each.

    The quantized tensors are ``bits_0``, ``bits_1`` and ``bits_2``.
    """
    rng = np.random.default_rng(seed)
    nodes, stored = [], []

    def store(name, array):
        stored.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def normalize(x, channels, out):
        parts = [
            rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels),
            rng.normal(size=channels),
            rng.normal(size=channels) * 4,
            rng.uniform(1, 9, channels),
        ]
        names = [store(f"{out}_{part}", values) for part, values in zip(("scale", "shift", "mean", "variance"), parts)]
        nodes.append(helper.make_node("BatchNormalization", [x, *names], [out], out))

    def quantize(x, out):
        nodes.append(helper.make_node("GreaterOrEqual", [x, "zero"], [f"{out}_test"]))
        nodes.append(helper.make_node("Where", [f"{out}_test", "plus", "minus"], [out]))

    def signs(*shape):
        return rng.choice([-1.0, 1.0], shape)

    for name, value in (("zero", 0), ("plus", 1), ("minus", -1)):
        store(name, value)
    nodes.append(helper.make_node("Conv", ["x", store("w0", rng.normal(size=(8, 3, 3, 3)))], ["stem"], "stem", pads=[1, 1, 1, 1]))
    quantize("stem", "bits_0")
    nodes.append(helper.make_node("Conv", ["bits_0", store("w1", signs(70, 8, 3, 3))], ["sum_1"], "conv_1"))
    normalize("sum_1", 70, "norm_1")
    quantize("norm_1", "bits_1")
    nodes.append(helper.make_node("Conv", ["bits_1", store("w2", signs(9, 70, 3, 3))], ["sum_2"], "conv_2"))
    normalize("sum_2", 9, "norm_2")
    quantize("norm_2", "bits_2")
    nodes.append(helper.make_node("Flatten", ["bits_2"], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", store("w3", signs(5, 36)), store("b3", rng.normal(size=5))], ["y"], "dense", transB=1))
    return as_model(nodes, stored, SHAPE, (1, 5))


def as_model(nodes, stored, in_shape, out_shape) -> onnx.ModelProto:
    """Return a model from ``x`` to ``y``."""
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (("x", in_shape), ("y", out_shape))]
    graph = helper.make_graph(nodes, "network", *ends, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(count: int, seed: int = 1) -> np.ndarray:
    """Return samples, float32[count, 3, 6, 6]."""
    return np.random.default_rng(seed).normal(size=(count, *SHAPE[1:])).astype(np.float32)


def compiled(model: onnx.ModelProto | None = None, **options):
    """Return what the compiler makes of a model, by default of the network above."""
    return compile(model or binary_network(), target="native", **options)


class _Change(Rewriter):
    """Replaces the constants of ``main`` that `change` returns something for."""

    def __init__(self, mod, change):
        super().__init__(mod)
        self.change, self.made = change, 0

    def rewrite(self, var, value, builder):
        if not hasattr(value, "args"):
            return None
        for i, arg in enumerate(value.args):
            array = constant(arg)
            changed = None if array is None else self.change(var.name, array)
            if changed is not None:
                self.made += 1
                args = [*value.args[:i], const(changed), *value.args[i + 1 :]]
                return type(value)(value.op, args, value.attrs, value.ty_args)
        return None


def corrupted(artifact, change):
    """Return the artifact with one constant changed: ``change(variable, array)`` returns an array for the one it means, else None."""
    walk = _Change(artifact.fused, change)
    fused = walk.run()
    assert walk.made == 1, f"{walk.made} constants were changed"
    return replace(artifact, fused=fused)

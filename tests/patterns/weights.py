"""Binary convolution weights as exports compute or store them; each builder returns the name of an [O, I, kH, kW] value."""

from __future__ import annotations

import math

import numpy as np

from .onnx_graph import Graph
from .spelling import weight

Shape = tuple[int, ...]


def random_signs(g: Graph, shape: Shape) -> np.ndarray:
    """Draw an array of -1 and +1."""
    return g.rng.choice([-1.0, 1.0], shape).astype(np.float32)


def latent(g: Graph, shape: Shape) -> np.ndarray:
    """Draw float weights whose magnitudes, multiples of 1/256, have mean 1/2 exactly along every axis of a filter."""
    magnitude = np.full(shape, 0.5, np.float32)
    kernel = shape[-1] * shape[-2]
    for o in range(shape[0]):
        for i in range(0, shape[1] - 1, 2):  # pairs of input channels deviate by opposite amounts
            delta = g.rng.integers(-100, 101, kernel).reshape(shape[2:]) / 256
            magnitude[o, i] += delta
            magnitude[o, i + 1] -= delta
    return magnitude * random_signs(g, shape)


@weight("already +-1 constants, BatchNormalization kept")
def plain_signs(g: Graph, shape: Shape) -> str:
    return g.const(random_signs(g, shape))


@weight("sign(W)")
def sign_of_latent(g: Graph, shape: Shape) -> str:
    return g.node("Sign", g.const(latent(g, shape)))


@weight("where(W>=0,1,-1)")
def where_of_latent(g: Graph, shape: Shape) -> str:
    w = g.const(latent(g, shape))
    return g.node("Where", g.greater_equal(w, g.scalar(0)), g.scalar(1), g.scalar(-1))


@weight("mean(abs(W))*sign(W)")
def mean_abs_sign(g: Graph, shape: Shape) -> str:
    w = g.const(latent(g, shape))
    scale = g.reduce("ReduceMean", g.node("Abs", w), [1, 2, 3])
    return g.node("Mul", scale, g.node("Sign", w))


@weight("Bi-Real HardBinaryConv: Abs ReduceMean x3 Sign Mul Clip Sub Add", exact=False, size=0.05)
def hard_binary_conv(g: Graph, shape: Shape) -> str:
    """(scale*sign(W)).detach() - clamp(W).detach() + clamp(W): the residue spreads |w| by 1e-7 relative."""
    w = g.const(g.rng.uniform(-1, 1, shape) * 0.1)
    scale = g.node("Abs", w)
    for axis in (3, 2, 1):
        scale = g.reduce("ReduceMean", scale, [axis])
    signed = g.node("Mul", scale, g.node("Sign", w))
    clipped = g.clip(w, -1, 1)
    return g.node("Add", g.node("Sub", signed, clipped), clipped)


@weight("once folded, abs(w) spreads by 1.7e-7 relative, up to 6 distinct values per channel", exact=False, size=0.035)
def spread_magnitudes(g: Graph, shape: Shape) -> str:
    scale = g.rng.uniform(0.02, 0.05, (shape[0], 1, 1, 1)).astype(np.float32)
    steps = g.rng.integers(-3, 3, shape)  # in units in the last place
    return g.const(random_signs(g, shape) * (scale + steps * np.spacing(scale)))


@weight("IR-Net: a 30-node subgraph", opset=11)
def ir_net(g: Graph, shape: Shape) -> str:
    """Weights standardised, then signed, times 2^round(log2(mean |w|)); the shapes go through Shape and Gather."""
    w = g.const(latent(g, shape) + 0.01)
    count = g.unsqueeze(g.node("Gather", g.node("Shape", w), g.scalar(0, np.int64), axis=0), [0])
    flat_shape = g.node("Concat", count, g.const([-1], dtype=np.int64), axis=0)
    full_shape = g.node("Concat", count, g.const([1, 1, 1], dtype=np.int64), axis=0)

    def mean(value: str) -> str:
        return g.reduce("ReduceMean", value, [-1], keepdims=0)

    def flat(value: str) -> str:
        return g.node("Reshape", value, flat_shape)

    centred = g.node("Sub", w, g.node("Reshape", mean(flat(w)), full_shape))
    rows = flat(centred)
    residue = g.node("Sub", rows, g.reduce("ReduceMean", rows, [-1]))
    squares = g.reduce("ReduceSum", g.node("Mul", residue, residue), [-1], keepdims=0)
    std = g.node("Sqrt", g.node("Div", squares, g.scalar(float(np.prod(shape[1:]) - 1))))
    standard = g.node("Div", centred, g.node("Reshape", std, full_shape))
    logarithm = g.node("Div", g.node("Log", mean(flat(g.node("Abs", standard)))), g.scalar(math.log(2)))
    scale = g.node("Reshape", g.node("Pow", g.scalar(2), g.node("Round", logarithm)), full_shape)
    return g.node("Mul", g.node("Sign", standard), scale)


@weight("BatchNorm folded into the weights, bias added", bias=True)
def batch_norm_folded(g: Graph, shape: Shape) -> str:
    """The filter of channel o is +-c_o with c_o of either sign."""
    scale = g.rng.choice([-0.25, -0.125, 0.0625, 0.25], (shape[0], 1, 1, 1))
    return g.const(random_signs(g, shape) * scale)


@weight("BatchNorm folded: scales that are no power of two", bias=True, exact=False)
def batch_norm_folded_float(g: Graph, shape: Shape) -> str:
    scale = g.rng.choice([-1, 1], (shape[0], 1, 1, 1)) * g.rng.uniform(0.05, 0.2, (shape[0], 1, 1, 1))
    return g.const(random_signs(g, shape) * scale)


@weight("a dead channel (all zero) must not turn its layer to float")
def dead_channel(g: Graph, shape: Shape) -> str:
    values = random_signs(g, shape)
    values[1] = 0
    return g.const(values)


@weight("ternary: {-a,0,a}; larq ste_tern gives three values per channel", packs=None)
def ternary(g: Graph, shape: Shape) -> str:
    scale = g.rng.choice([0.25, 0.5], (shape[0], 1, 1, 1))
    return g.const(g.rng.integers(-1, 2, shape) * scale)


@weight("asymmetric {-wn,0,wp} (TTQ)", packs=None)
def ternary_asymmetric(g: Graph, shape: Shape) -> str:
    return g.const(g.rng.choice([-0.5, 0.0, 0.75], shape))


@weight("stored -0.0", packs=None)
def ternary_minus_zero(g: Graph, shape: Shape) -> str:
    values = g.rng.integers(-1, 2, shape).astype(np.float32)
    values[(values == 0) & (g.rng.random(shape) < 0.5)] = -0.0
    return g.const(values)


@weight("weights by expression: Sign(W - mean(W)) with Expand")
def sign_of_centred(g: Graph, shape: Shape) -> str:
    w = g.const(latent(g, shape) + 0.003)
    mean = g.node("Expand", g.reduce("ReduceMean", w, [1, 2, 3]), g.const(shape, dtype=np.int64))
    return g.node("Sign", g.node("Sub", w, mean))


@weight("weights by expression: Sign(Clip(standardised, +-Q))")
def sign_of_standardised_clip(g: Graph, shape: Shape) -> str:
    w = g.const(g.rng.normal(0.02, 1, shape))
    centred = g.node("Sub", w, g.reduce("ReduceMean", w, [1, 2, 3]))
    std = g.node("Sqrt", g.reduce("ReduceMean", g.node("Mul", centred, centred), [1, 2, 3]))
    return g.node("Sign", g.clip(g.node("Div", centred, g.node("Add", std, g.scalar(1e-5))), -0.9, 0.9))


@weight("weights by expression: R1^T X R2 MatMuls")
def rotated(g: Graph, shape: Shape) -> str:
    """RBNN: each filter as a matrix, turned by two orthogonal matrices before its sign."""
    rows, columns = shape[1], shape[2] * shape[3]
    r1, r2 = (np.linalg.qr(g.rng.normal(size=(n, n)))[0] for n in (rows, columns))
    flat = g.reshape(g.const(latent(g, shape)), (shape[0], rows, columns))
    turned = g.node("MatMul", g.node("MatMul", g.node("Transpose", g.const(r1), perm=[1, 0]), flat), g.const(r2))
    return g.node("Sign", g.reshape(turned, shape))


@weight("weights by expression: alpha*sign + beta (AdaBin)", packs=None)
def scaled_and_shifted(g: Graph, shape: Shape) -> str:
    alpha = g.const(g.rng.choice([0.25, 0.5], (shape[0], 1, 1, 1)))
    beta = g.const(g.rng.choice([-0.125, 0.0625], (shape[0], 1, 1, 1)))
    return g.node("Add", g.node("Mul", alpha, g.node("Sign", g.const(latent(g, shape)))), beta)


@weight("weights by expression: Pow(2, Round(Log(..)/ln2))", opset=11)
def power_of_two_scale(g: Graph, shape: Shape) -> str:
    w = g.const(g.rng.normal(0, 0.3, shape))
    mean = g.reduce("ReduceMean", g.node("Abs", w), [1, 2, 3])
    scale = g.node("Pow", g.scalar(2), g.node("Round", g.node("Div", g.node("Log", mean), g.scalar(math.log(2)))))
    return g.node("Mul", scale, g.node("Sign", w))


@weight("weights by expression: Reshape of a flat column")
def flat_column(g: Graph, shape: Shape) -> str:
    column = g.const(random_signs(g, shape).reshape(-1, 1))
    return g.reshape(column, shape)


@weight("kept in HWIO by tf2onnx: Transpose of the constant, larq's where")
def transposed_hwio(g: Graph, shape: Shape) -> str:
    w = g.const(latent(g, shape).transpose(2, 3, 1, 0))
    ge = g.greater_equal(w, g.const(0.0))
    plus = g.node("Mul", g.cast(ge), g.const(1.0))
    minus = g.node("Mul", g.cast(g.node("Not", ge)), g.const(-1.0))
    return g.node("Transpose", g.node("Add", plus, minus), perm=[3, 2, 0, 1])


@weight("XNOR-Net: centred, clamped, then mean(abs)*sign")
def xnor_net(g: Graph, shape: Shape) -> str:
    w = g.const(latent(g, shape) + 0.002)
    clamped = g.clip(g.node("Sub", w, g.reduce("ReduceMean", w, [1])), -1, 1)
    return g.node("Mul", g.node("Sign", clamped), g.const(g.rng.choice([0.25, 0.5], (shape[0], 1, 1, 1))))

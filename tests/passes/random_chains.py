"""Random elementwise chains of one tensor, in Relax and in NumPy."""

from __future__ import annotations

import numpy as np
from tvm.relax import op

from bnncc.passes.rewrite import const

__all__ = ["random_chain"]


def random_chain(seed: int, channels: int):
    """Return the chain in Relax, the same function in NumPy, and whether it ends in an operator of few values.

    Constants are multiples of 1/4, so that ties are common.
    """
    rng = np.random.default_rng(seed)
    number = lambda *shape: (rng.integers(-8, 9, shape) / np.float32(4)).astype(np.float32)  # noqa: E731
    relax_steps, numpy_steps = [], []
    ended = False
    for _ in range(int(rng.integers(2, 7))):
        kind = int(rng.integers(0, 13))
        c = number(channels) if rng.random() < 0.5 else number()
        low = float(rng.integers(-3, 1))
        ended = kind in (0, 1, 2, 3, 4)
        made = {
            0: (op.sign, np.sign),
            1: (lambda v, c=c: op.astype(op.greater(v, const(c)), "float32"), lambda v, c=c: (v > c).astype(np.float32)),
            2: (lambda v, c=c: op.astype(op.less_equal(v, const(c)), "float32"), lambda v, c=c: (v <= c).astype(np.float32)),
            3: (lambda v, a=low: op.round(op.clip(v, a, 2.0)), lambda v, a=low: np.round(np.clip(v, np.float32(a), np.float32(2)))),
            4: (
                lambda v, c=c: op.where(op.greater_equal(v, const(c)), const(np.float32(1)), const(np.float32(-1))),
                lambda v, c=c: np.where(v >= c, np.float32(1), np.float32(-1)),
            ),
            5: (lambda v, c=c: op.multiply(v, const(c)), lambda v, c=c: v * c),
            6: (lambda v, c=c: op.add(v, const(c)), lambda v, c=c: v + c),
            7: (lambda v, c=c: op.subtract(const(c), v), lambda v, c=c: c - v),
            8: (op.abs, np.abs),
            9: (lambda v, a=low: op.clip(v, a, 1.5), lambda v, a=low: np.clip(v, np.float32(a), np.float32(1.5))),
            10: (lambda v, c=c: op.nn.prelu(v, const(np.broadcast_to(c, (channels,))), 1), lambda v, c=c: np.where(v >= 0, v, v * c)),
            11: (lambda v: op.multiply(v, op.sign(v)), lambda v: v * np.sign(v)),
            12: (
                lambda v, c=c: op.where(op.greater(v, const(c)), v, op.multiply(v, const(np.float32(0.5)))),
                lambda v, c=c: np.where(v > c, v, v * np.float32(0.5)),
            ),
        }[kind]
        relax_steps.append(made[0])
        numpy_steps.append(made[1])

    def build(x):
        for step in relax_steps:
            x = step(x)
        return x

    def function(x):
        x = x.astype(np.float32)
        for step in numpy_steps:
            x = step(x).astype(np.float32)
        return x

    return build, function, ended

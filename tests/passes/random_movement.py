"""Random programs of operators that move, slice and broadcast, with a convolution, a dense layer and reductions in between."""

from __future__ import annotations

import math

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops.registry import static_shape
from bnncc.passes.rewrite import const

__all__ = ["random_movement"]

LARGEST = 20000  # elements of a value


class _Program:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.builder = relax.BlockBuilder()

    def below(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def numbers(self, *shape: int) -> relax.Expr:
        return const(self.rng.integers(-2, 3, shape).astype(np.float32))

    def permute(self, v, s):
        return op.permute_dims(v, [int(i) for i in self.rng.permutation(len(s))])

    def reshape(self, v, s):
        rest, shape = math.prod(s), []
        while rest > 1 and len(shape) < 4:
            divisors = [d for d in range(2, rest + 1) if rest % d == 0][:6]
            shape.append(divisors[self.below(0, len(divisors))])
            rest //= shape[-1]
        return op.reshape(v, [*shape, rest])

    def flatten(self, v, s):
        return op.reshape(v, [s[0], math.prod(s[1:])])

    def squeeze(self, v, s):
        return op.squeeze(v, [i for i, n in enumerate(s) if n == 1])

    def constant(self, v, s):
        shape = [n if self.below(0, 2) else 1 for n in s][self.below(0, len(s) + 1) :]
        return op.multiply(v, self.numbers(*shape)) if self.below(0, 2) else op.subtract(self.numbers(*shape), v)

    def concat(self, v, s):
        other = self.builder.emit(op.negative(v)) if self.below(0, 2) else self.numbers(*s)
        return op.concat([v, other], self.below(0, len(s)))

    def stack(self, v, s):
        axis = self.below(0, len(s) + 1)
        parts = [self.builder.emit(op.expand_dims(p, [axis])) for p in (v, self.builder.emit(op.negative(v)))]
        return op.concat(parts, axis)

    def slice(self, v, s):
        axis = self.below(0, len(s))
        low = self.below(0, s[axis])
        return op.strided_slice(v, [axis - len(s) * self.below(0, 2)], [low], [self.below(low, s[axis]) + 1], [self.below(1, 3)])

    def split(self, v, s):
        axis = self.below(0, len(s))
        parts = self.builder.emit(op.split(v, [self.below(0, s[axis])], axis))
        return relax.TupleGetItem(parts, 1)

    def take(self, v, s):
        axis = self.below(0, len(s))
        one = len(s) > 1 and self.below(0, 2)
        return op.take(v, const(self.rng.integers(0, s[axis], [] if one else self.below(1, 4))), axis)

    def pad(self, v, s):
        return op.nn.pad(v, [int(w) for w in self.rng.integers(0, 2, 2 * len(s))], "constant", 1.0)

    def reduce(self, v, s):
        axes = sorted({self.below(0, len(s)) for _ in range(self.below(1, 3))})
        return op.max(v, axes, bool(self.below(0, 2)))

    def shuffle(self, v, s):
        split = self.builder.emit(op.reshape(v, [s[0], 2, s[1] // 2, *s[2:]]))
        return op.reshape(self.builder.emit(op.permute_dims(split, [0, 2, 1, *range(3, len(s) + 1)])), s)

    def slices_of_a_sign(self, v, s):
        axis, k = self.below(1, 3), self.below(2, 4)
        offsets = const(np.arange(k, dtype=np.float32).reshape([k if i == axis else 1 for i in range(5)]))
        sign = self.builder.emit(op.sign(self.builder.emit(op.add(self.builder.emit(op.expand_dims(v, [axis])), offsets))))
        return op.reshape(sign, [s[0], s[1] * k, *s[2:]]) if self.below(0, 2) else op.negative(sign)

    def conv(self, v, s):
        return op.nn.conv2d(v, self.numbers(self.below(1, 5), s[1], 1, 1))

    def dense(self, v, s):
        return op.matmul(v, self.numbers(s[-1], self.below(1, 5)))

    def broadcast(self, v, s):
        return op.broadcast_to(v, [n if n > 1 else self.below(1, 3) for n in s])

    def flip(self, v, s):
        return op.flip(v, self.below(0, len(s)))


STEPS = {
    "permute": 1, "reshape": 1, "flatten": 1, "squeeze": 1, "constant": 1, "concat": 1, "stack": 1, "slice": 1, "split": 1, "take": 1, "pad": 1, "reduce": 1,
    "shuffle": 2, "slices_of_a_sign": 4, "conv": 4, "dense": 2, "broadcast": 1, "flip": 1,
}  # fmt: skip
"""Step to the least rank it takes; those of 4 take 4 alone."""


def random_movement(seed: int) -> tvm.IRModule:
    """Return a module of one NCHW parameter and up to two outputs; the same for the same seed."""
    program = _Program(seed)
    builder, below = program.builder, program.below
    x = relax.Var("x", relax.TensorType((below(1, 3), 2 * below(1, 7), 2 * below(1, 4), 2 * below(1, 4)), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            values = [x, builder.emit(program.conv(x, static_shape(x)))]
            while len(values) < 12:
                value = values[-1] if below(0, 3) else values[below(0, len(values))]
                shape = static_shape(value)
                name = list(STEPS)[below(0, len(STEPS))]
                fits = len(shape) >= STEPS[name] and (STEPS[name] < 4 or len(shape) == 4) and (name != "shuffle" or shape[1] % 2 == 0)
                if not fits or len(shape) > 5:
                    continue
                new = builder.normalize(getattr(program, name)(value, shape))
                if 0 < math.prod(static_shape(new)) < LARGEST and static_shape(new):
                    values.append(builder.emit(new))
            outputs = [builder.emit_output(op.negative(v)) for v in (values[-1], values[below(1, 12)])]
        builder.emit_func_output(relax.Tuple(outputs))
    return builder.get()

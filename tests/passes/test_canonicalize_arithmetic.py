from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops.interpreter import run_module
from bnncc.passes.canonicalize_arithmetic import canonicalize_arithmetic
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.rewrite import const

from .programs import module, operators, rewritten, unchanged

X = ((2, 3), "float32")


def test_the_residue_of_a_straight_through_estimator_cancels():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                c = R.clip(x, -1, 1)
                s = R.sign(x)
                d = R.subtract(s, c)
                y = R.add(d, c)
                z = R.nn.relu(y)
                R.output(z)
            return z

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 3), "float32")):
            with R.dataflow():
                s = R.sign(x)
                z = R.nn.relu(s)
                R.output(z)
            return z

    tvm.ir.assert_structural_equal(rewritten(canonicalize_arithmetic, Before), Expected)


RESIDUES = {
    "c + (s - c)": lambda s, c: op.add(c, op.subtract(s, c)),
    "s - c + c": lambda s, c: op.add(op.subtract(s, c), c),
    "s + c - c": lambda s, c: op.subtract(op.add(s, c), c),
    "-(c - s - c)": lambda s, c: op.negative(op.subtract(op.subtract(c, s), c)),
    "-(-s) + (c - c)": lambda s, c: op.add(op.negative(op.negative(s)), op.subtract(c, c)),
    "s - (c - c)": lambda s, c: op.subtract(s, op.subtract(c, c)),
    "-(-s)": lambda s, c: op.negative(op.negative(s)),
    "(s + c) - (c + s) + s": lambda s, c: op.add(op.subtract(op.add(s, c), op.add(c, s)), s),
}


@pytest.mark.parametrize("name", RESIDUES)
def test_opposite_terms_cancel_in_any_order(name):
    """The codes are small integers, so that no sum of the source is rounded."""
    after = canonicalize_arithmetic(module(lambda x: op.nn.relu(_twice_bound(RESIDUES[name], x)), X), PassContext())
    assert operators(after) == ["sign", "nn.relu"]


def _twice_bound(residue, x):
    builder = relax.BlockBuilder.current()
    return residue(builder.emit(op.sign(x)), builder.emit(op.clip(x, -1, 1)))


KEPT = {
    "a sum of two": lambda s, c: op.add(s, c),
    "twice the same": lambda s, c: op.add(op.subtract(op.add(s, s), c), c),
    "nothing but the opposite": lambda s, c: op.subtract(op.add(c, c), op.add(s, op.add(c, c))),
    "two that are left": lambda s, c: op.add(op.subtract(op.add(s, op.nn.relu(c)), c), c),
    "with a constant": lambda s, c: op.add(op.subtract(s, const(np.float32(1))), const(np.float32(1))),
    "zero": lambda s, c: op.subtract(s, s),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_no_single_term_stays(name):
    def build(x):
        builder = relax.BlockBuilder.current()
        s, c = builder.emit(op.sign(x)), builder.emit(op.clip(x, -1, 1))
        return op.nn.relu(KEPT[name](s, c)), op.negative(c)  # c is alive where the sum does not read it

    unchanged(canonicalize_arithmetic, module(build, X))


def test_a_term_of_another_shape_does_not_take_the_place_of_the_sum():
    mod = module(lambda x, c: op.nn.relu(op.add(op.subtract(c, x), x)), X, ((3,), "float32"))
    assert operators(canonicalize_arithmetic(mod, PassContext())) == operators(mod)


def test_a_number_by_its_absolute_value_is_a_comparison_and_plus_one_at_zero():
    mod = module(lambda x: op.divide(x, op.abs(x)), X)
    ctx = PassContext(tensors={b.var.name: TensorView("y") for b in mod["main"].body.blocks[0].bindings})
    after = rewritten(canonicalize_arithmetic, mod, ctx, np.array([[1, -2, 3], [-1e-45, 5, -6]], np.float32))
    assert operators(after) == ["greater_equal", "where"]
    assert ctx.warnings == ["y: x / abs(x) is NaN at 0 in the model; bnncc takes +1 there."]
    assert run_module(after, np.zeros((2, 3), np.float32)).tolist() == [[1, 1, 1]] * 2


QUOTIENTS = {
    "another number": lambda x, y: op.divide(x, op.abs(y)),
    "no absolute value": lambda x, y: op.divide(x, y),
    "upside down": lambda x, y: op.divide(op.abs(x), x),
    "a constant": lambda x, y: op.divide(const(np.float32(1)), op.abs(x)),
}


@pytest.mark.parametrize("name", QUOTIENTS)
def test_other_quotients_stay(name):
    unchanged(canonicalize_arithmetic, module(QUOTIENTS[name], X, X))


def test_the_counts_of_very_long_sums_are_not_kept():
    def build(*xs):
        total = xs[0]
        for x in xs[1:]:
            total = op.add(total, x)
        return op.subtract(total, xs[-1])

    unchanged(canonicalize_arithmetic, module(build, *[X] * 40))

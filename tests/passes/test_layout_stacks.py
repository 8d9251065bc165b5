"""Dense layers on stacks of matrices, tokens of sequences for instance."""

from __future__ import annotations

import numpy as np
from tvm.relax import op

from bnncc.passes.rewrite import const

from .layout_checks import canonical, operators
from .programs import module

RNG = np.random.default_rng(0)


def _whole(*shape):
    return const(RNG.integers(-3, 4, shape).astype(np.float32))


def test_rows_of_a_stack_are_those_of_one_matrix_through_all_that_follows():
    """One reshape stands at either end."""
    build = lambda x: op.matmul(op.sign(op.add(op.matmul(x, _whole(8, 6)), _whole(6))), _whole(6, 3))  # noqa: E731
    new, _ = canonical(module(build, ((2, 5, 8), "float32")))
    assert operators(new) == ["reshape", "matmul", "add", "sign", "matmul", "reshape"]


def test_an_axis_of_the_stack_may_be_read_alone_again():
    build = lambda x: op.mean(op.matmul(x, _whole(8, 6)), [1])  # noqa: E731
    new, _ = canonical(module(build, ((2, 5, 8), "float32")))
    assert operators(new)[:2] == ["reshape", "matmul"] and "mean" in operators(new)

"""Matrix products."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, constant_of, converts


@converts("MatMul")
def convert_matmul(c: Conversion) -> relax.Expr:
    """Product of matrices, or of stacks of them."""
    return R.matmul(c[0], c[1])


@converts("Gemm")
def convert_gemm(c: Conversion) -> relax.Expr:
    """``alpha * A' B' + beta * C``; a constant operand is transposed here, not at run time."""
    alpha, beta = c.attributes.get("alpha", 1.0), c.attributes.get("beta", 1.0)
    a, b = (_operand(c, i, c.attributes.get(flag, 0)) for i, flag in ((0, "transA"), (1, "transB")))
    product = R.matmul(a, b)
    if alpha != 1.0:
        product = R.multiply(c.emit(product), c.like(alpha, a))
    if c.get(2) is None or beta == 0.0:
        return product
    bias = c[2]
    if beta != 1.0:
        values = c.array(2)
        bias = c.emit(R.multiply(bias, c.like(beta, a))) if values is None else constant_of(values * values.dtype.type(beta))
    return R.add(c.emit(product), bias)


def _operand(c: Conversion, index: int, transposed: int) -> relax.Expr:
    if not transposed:
        return c[index]
    values = c.array(index)
    return c.emit(R.permute_dims(c[index])) if values is None else constant_of(np.ascontiguousarray(values.T))

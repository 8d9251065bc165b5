"""Matrix products."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, constant_of, converts


@converts("MatMul")
def convert_matmul(c: Conversion) -> relax.Expr:
    """Product of matrices, or of stacks of them; a vector is a matrix of one row or column. Weights on the left, W x, are brought to the right: (x' W')'."""
    a, b = c[0], c[1]
    left, right = c.shape(a), c.shape(b)
    if min(len(left), len(right)) == 1:
        rows = a if len(left) > 1 else c.emit(R.reshape(a, (1, *left)))
        columns = b if len(right) > 1 else c.emit(R.reshape(b, (*right, 1))) if c.array(1) is None else constant_of(c.array(1).reshape(*right, 1))
        product = c.emit(R.matmul(rows, columns))
        shape = c.shape(product)
        kept = shape[:-2] + (shape[-2:-1] if len(left) > 1 else ()) + (shape[-1:] if len(right) > 1 else ())
        return R.reshape(product, kept)
    weight = c.array(0)
    if weight is None or weight.ndim != 2 or c.array(1) is not None:
        return R.matmul(a, b)
    order = [*range(len(right) - 2), len(right) - 1, len(right) - 2]
    product = R.matmul(c.emit(R.permute_dims(b, order)), constant_of(np.ascontiguousarray(weight.T)))
    return R.permute_dims(c.emit(product), order)


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

"""Float products rounded as written: no silent fusing of a multiplication and an addition."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

__all__ = ["CONTRACT", "round_products"]

# A kernel with this attribute lets products be fused into sums everywhere.
CONTRACT = "bnncc.contract"


def _is_float(expr: tirx.Expr) -> bool:
    return str(expr.ty.dtype).startswith("float")


def _rounded(product: tirx.Mul) -> tirx.Expr:
    """Wrap a float product in an operation that LLVM does not fuse across.

    ``llvm.arithmetic.fence`` costs no instruction, but keeps LLVM's vectorizers away: what is to be vector code has to be written as such.
    ``llvm.canonicalize`` would not, but LLVM 22 crashes on the two-lane one that its vectorizers make of short loops.
    """
    if not _is_float(product):
        return product
    return tirx.call_llvm_pure_intrin(str(product.ty.dtype), "llvm.arithmetic.fence", product)


def _plain(expr: tirx.Expr) -> tirx.Expr:
    """Undo `_rounded`; what it wraps is the only intrinsic call whose operand is a bare product, as all others have been wrapped by now."""
    if isinstance(expr, tvm.ir.Call) and len(expr.args) == 2 and isinstance(expr.args[1], tirx.Mul) and _is_float(expr):
        return expr.args[1]
    return expr


def _reads(expr: tirx.Expr, store: tirx.BufferStore) -> bool:
    """Tell whether a sum has the element that `store` writes among its terms."""
    if isinstance(expr, tirx.Add):
        return _reads(expr.a, store) or _reads(expr.b, store)
    return (
        isinstance(expr, tvm.ir.TensorLoad)
        and expr.source.same_as(store.buffer)
        and tvm_ffi.structural_equal(expr.indices, store.indices)
    )


def _plain_terms(expr: tirx.Expr) -> tirx.Expr:
    if isinstance(expr, tirx.Add):
        return tirx.Add(_plain_terms(expr.a), _plain_terms(expr.b))
    return _plain(expr)


def _accumulation(store: tirx.BufferStore) -> tirx.BufferStore:
    """Leave the products in ``acc[i] = acc[i] + a * b`` open to fusing."""
    if isinstance(store.value, tirx.Add) and _is_float(store.value) and _reads(store.value, store):
        return tirx.BufferStore(store.buffer, _plain_terms(store.value), store.indices)
    return store


def round_products(body: tirx.Stmt) -> tirx.Stmt:
    """Make every float product be rounded before it is added to something, except where it is accumulated.

    Parameters
    ----------
    body : tvm.tirx.Stmt
        With loops and stores, before common subexpressions are named.

    Returns
    -------
    tvm.tirx.Stmt
        The same with products wrapped.

    Notes
    -----
    TVM's LLVM code generator fuses ``a * b + c`` into one rounding wherever the machine can. Then a batch normalization followed by a sign
    would decide ties otherwise than the ONNX model, which rounds twice, and otherwise on AVX2 than on SSE. In the accumulation of a float
    convolution or matrix product the order of the additions differs from the reference's anyway, and the fused form is twice as fast: a
    product that is added to the element it is stored to stays as it is.
    """
    return tvm_ffi.structural_map(body, ((tirx.Mul, _rounded), (tirx.BufferStore, _accumulation)))

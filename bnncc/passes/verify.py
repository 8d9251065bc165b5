"""The contracts between phases: which operators may be left after each, checked before the next one starts."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.ir import GlobalVar

from bnncc.errors import InternalError
from bnncc.ops import is_bnn
from bnncc.passes.rewrite import Graph, op_name

__all__ = ["verify_phase", "PHASES"]

_LOGICAL = frozenset(f"relax.bnn.{n}" for n in "quantize dequantize conv2d dense max_pool2d logic pad repeat_channels".split())
_PACKED = frozenset(
    f"relax.bnn.{n}"
    for n in (
        "pack unpack packed_conv2d packed_dense plane_conv2d plane_dense packed_max_pool2d packed_logic packed_pad gather_channels sign_conv2d "
        "sign_dense signed_sum_conv2d quantize conv2d dense pad repeat_channels"
    ).split()
)

PHASES = {
    "import": "float Relax operators only, no dialect, every shape static",
    "recognise": "logical dialect and float operators; images NHWC",
    "fold": "as recognise",
    "pack": "packed dialect, float operators and layers on integers without padding; no logical pool or dequantize",
    "fuse": "calls of groups, reshapes and tuple fields only",
    "lower": "call_tir, reshapes and tuple fields only",
}


def verify_phase(mod: tvm.IRModule, phase: str) -> None:
    """Check the contract of `phase` on ``main``.

    Raises
    ------
    InternalError
        Naming the first binding that breaks it.
    """
    check = globals()[f"_after_{phase}"]
    for b in Graph(mod).bindings:
        problem = check(b.value)
        if problem:
            raise InternalError(f"After phase {phase!r} ({PHASES[phase]}), {b.var.name} is {op_name(b.value) or type(b.value).__name__}: {problem}")


def _after_import(value) -> str | None:
    return "the dialect has no place before recognition" if is_bnn(value) else _static(value)


def _after_recognise(value) -> str | None:
    if is_bnn(value) and op_name(value) not in _LOGICAL:
        return "not an operator of the logical level"
    if op_name(value) in ("relax.nn.conv2d", "relax.nn.max_pool2d", "relax.nn.avg_pool2d"):
        layout = value.attrs.data_layout if op_name(value) == "relax.nn.conv2d" else value.attrs.layout
        if layout != "NHWC":
            return f"its layout is {layout}"
    return _static(value)


def _after_fold(value) -> str | None:
    return _after_recognise(value)


def _after_pack(value) -> str | None:
    if is_bnn(value) and op_name(value) not in _PACKED:
        return "not an operator of the packed level"
    if is_bnn(value, "conv2d") and any(int(p) for p in value.attrs.padding):
        return "its padding is not a step of its own"
    return _static(value)


def _after_fuse(value) -> str | None:
    if isinstance(value, relax.Call) and not isinstance(value.op, GlobalVar) and op_name(value) != "relax.reshape":
        return "outside of any group"
    return None


def _after_lower(value) -> str | None:
    if isinstance(value, relax.Call) and op_name(value) not in ("relax.call_tir", "relax.reshape"):
        return "not lowered"
    return None


def _static(value) -> str | None:
    ty = getattr(value, "ty", None)
    if not isinstance(ty, relax.TensorType):
        return None
    if ty.shape is None or not all(isinstance(d, tvm.tirx.IntImm) for d in getattr(ty.shape, "values", [None])):
        return "its shape is not known"
    return "its type is not known" if ty.dtype is None else None

"""What the rules of `canonicalize_layout` share.

A rule takes the run's state, the old variable and the old call, and returns the new value, or None where the operator keeps its ONNX layout.
"""

from __future__ import annotations

from tvm import relax

from bnncc.passes.layout import Layout
from bnncc.passes.layout_values import Value

__all__ = ["bound", "ints"]


def ints(values) -> list[int]:
    """Return attributes or a tuple of literals as Python integers."""
    return [int(v) for v in values]


def bound(run, var: relax.Var, call: relax.Call, layout: Layout) -> Value:
    """Bind `call` as the value of the old variable `var`, in this layout."""
    return Value(run.bind(call, var.name, layout), layout, var.name)

"""Lowered modules to files that run without TVM and without Python."""

from __future__ import annotations

from bnncc.codegen.emit import emit_library
from bnncc.codegen.emit_c import emit_c
from bnncc.spec import TensorSpec

__all__ = ["TensorSpec", "emit_c", "emit_library"]

"""Relax variable names made from ONNX tensor names."""

from __future__ import annotations

import keyword
import re

from bnncc.frontend.onnx_graph import fresh_name

__all__ = ["VariableNames"]

# Names that mean something in printed TVMScript.
_RESERVED = {"R", "I", "T", "tvm", "main", "Module", "metadata", "inf", "nan"} | set(keyword.kwlist)


class VariableNames:
    """Hands out names that are unique and valid identifiers."""

    def __init__(self) -> None:
        self._taken = set(_RESERVED)

    def name(self, tensor: str) -> str:
        """Return a new variable name that resembles the tensor's."""
        identifier = re.sub(r"[^0-9A-Za-z_]", "_", tensor) or "t"
        if not identifier[0].isalpha():
            identifier = "t" + identifier if identifier[0] == "_" else "t_" + identifier
        return fresh_name(identifier, self._taken)

"""Loading and running compiled models; needs NumPy and nothing of the compiler."""

from __future__ import annotations

from bnncc.runtime.model import CompiledModel, load
from bnncc.spec import TensorSpec

__all__ = ["CompiledModel", "TensorSpec", "load"]

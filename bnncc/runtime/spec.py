"""How a tensor at the border of a compiled model is described."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["TensorSpec"]


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and element type of one input or output.

    Parameters
    ----------
    name : str
        As in the ONNX file.
    shape : tuple of int
        Every dimension known.
    dtype : str
        NumPy's name of the element type.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size of the tensor in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"

"""What all layers say of tensors and nodes: plain records, importing nothing of the compiler."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bnncc.errors import InputError

__all__ = ["ByteInput", "NodeInfo", "TensorSpec"]


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


@dataclass(frozen=True)
class ByteInput:
    """What the bytes of an input stand for: ``scale * (byte - zero)``, in float32."""

    scale: float = 1.0
    zero: float = 0.0

    def __post_init__(self):
        for what, number in (("scale", self.scale), ("zero", self.zero)):
            if not math.isfinite(np.float32(number)) or (what == "scale" and np.float32(number) == 0):
                raise InputError(f"The {what} of an input of bytes is {number}; it is a finite number{', not 0' if what == 'scale' else ''}.")


@dataclass(frozen=True)
class NodeInfo:
    """A node of the ONNX model.

    ``name`` is the node's own name, or a made-up one where the exporter left it empty or gave it twice. A node of a quantizer
    domain stays what it was, though it was rewritten to standard operators.
    """

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    output: str

"""Every exception bnncc raises on purpose.

::

    BnnccError
    ├── ModelError               the ONNX file, or what it holds
    │   ├── ModelFormatError     not ONNX, truncated, cyclic, duplicate names, external data missing or outside the folder
    │   ├── ModelShapeError      a dimension that is unknown, zero or absurd; a --shape that does not fit
    │   ├── ModelValueError      NaN or Inf in the weights
    │   └── UnsupportedOperator  an operator, attribute or type the compiler does not take
    ├── TargetError              no such target, or a library for more than this machine has
    │   └── BudgetError          a firmware takes more flash or RAM than its board has
    ├── ToolchainError           no compiler or linker, or it failed
    ├── InputError               wrong name, shape or dtype of an array at run time
    ├── OutputError              the output folder holds other content or cannot be written
    ├── LibraryError             a folder that is not a compiled model, or is damaged
    ├── DeviceError              a device that cannot be reached, does not answer in time, refuses the key, or ends the session
    └── InternalError            a contract between two phases does not hold: a bug of ours

A message is one readable paragraph: what was found and where (node, tensor), what is supported, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "BnnccError",
    "ModelError",
    "ModelFormatError",
    "ModelShapeError",
    "ModelValueError",
    "UnsupportedOperator",
    "TargetError",
    "BudgetError",
    "ToolchainError",
    "InputError",
    "OutputError",
    "LibraryError",
    "DeviceError",
    "InternalError",
]


class BnnccError(Exception):
    """Base of all errors that bnncc raises on purpose."""


class ModelError(BnnccError):
    """The model cannot be compiled as it is."""


class ModelFormatError(ModelError):
    """The file is not a sound ONNX model."""


class ModelShapeError(ModelError):
    """A dimension is unknown, zero, absurdly large, or contradicts the shape that was asked for."""


class ModelValueError(ModelError):
    """A weight is NaN or infinite."""


class UnsupportedOperator(ModelError):
    """An operator, attribute or element type that the compiler does not take."""


class TargetError(BnnccError):
    """The target is unknown, or this machine cannot run what was built for it."""


class BudgetError(TargetError):
    """A firmware takes more flash or RAM than its board has."""


class ToolchainError(BnnccError):
    """No C compiler or linker was found, or it failed."""


class InputError(BnnccError, ValueError):
    """An array handed to a compiled model has the wrong name, shape or dtype."""


class OutputError(BnnccError, OSError):
    """The output folder holds other content, or cannot be written."""


class LibraryError(BnnccError):
    """The folder is not a compiled model, or is damaged."""


class DeviceError(BnnccError):
    """A device cannot be reached, does not answer in time, refuses the key, or ends the session."""


class InternalError(BnnccError):
    """A contract between two phases does not hold; a bug in bnncc."""

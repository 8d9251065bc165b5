"""bnncc: a compiler for binary and low-bit neural networks.

::

    import bnncc
    bnncc.compile("model.onnx", target="x86-64").save("out/")
    y = bnncc.load("out/")(x)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnncc.errors import BnnccError

if TYPE_CHECKING:
    from bnncc.compiler import CompiledArtifact, compile
    from bnncc.runtime import CompiledModel, load

__version__ = "0.1.0"
__all__ = ["BnnccError", "CompiledArtifact", "CompiledModel", "compile", "load", "__version__"]

_LAZY = {"compile": "bnncc.compiler", "CompiledArtifact": "bnncc.compiler", "load": "bnncc.runtime", "CompiledModel": "bnncc.runtime"}


def __getattr__(name: str):
    """Import on first use: loading a compiled model needs NumPy only, and TVM takes seconds to import."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'bnncc' has no attribute {name!r}")

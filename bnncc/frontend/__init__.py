"""ONNX to Relax: loading and checking, standard operators, constant folding, conversion."""

from __future__ import annotations

from bnncc.frontend.importer import import_onnx
from bnncc.frontend.spec import ImportedModel, NodeInfo, TensorSpec

__all__ = ["import_onnx", "ImportedModel", "NodeInfo", "TensorSpec"]

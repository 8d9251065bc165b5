"""Reading an ONNX file: bytes to a model whose tensors are all in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import inliner

from bnncc.errors import ModelFormatError
from bnncc.frontend.external_data import load_external_data
from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, all_graphs, all_tensors

__all__ = ["load_model"]

NEWEST_KNOWN_IR = 10
OLDEST_KNOWN_IR = 3
OLDEST_OPSET, NEWEST_TRIED_OPSET = 9, 21


def load_model(source: str | Path | onnx.ModelProto, warnings: list[str]) -> onnx.ModelProto:
    """Load a model with its external data, local functions inlined.

    Parameters
    ----------
    source
        A file, or a model in memory (which is copied, and must hold its data itself).
    warnings
        Receives what is unusual but does not hinder.

    Raises
    ------
    ModelFormatError
        The file is missing, empty, truncated or not ONNX, its format is too old, or its external data are missing,
        damaged, or outside of the model's folder.
    """
    if isinstance(source, onnx.ModelProto):
        model, folder = onnx.ModelProto(), None
        model.CopyFrom(source)
    else:
        model, folder = _parse(Path(source)), Path(source).resolve().parent
    _check_text(model)
    _check_versions(model, warnings)
    _spell_standard_domain(model)
    load_external_data(all_tensors(model.graph), folder)
    model.graph.name = model.graph.name or "graph"  # onnxruntime and onnx's checker insist on one
    if model.functions:
        try:
            model = inliner.inline_local_functions(model)
        except Exception as error:  # the inliner raises whatever its C++ part throws
            raise ModelFormatError(
                f"The model's local functions cannot be inlined: {error}. Export it again, without local functions."
            ) from error
    return model


def _parse(path: Path) -> onnx.ModelProto:
    again = "Check the path, or export or copy the model again."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFormatError(f"The model {path} cannot be read: {error.strerror}. {again}") from error
    if not data:
        raise ModelFormatError(f"The model {path} is an empty file. {again}")
    if data.startswith(b"version https://git-lfs"):
        raise ModelFormatError(f"{path} is a Git LFS pointer, not the model itself. Fetch the file with 'git lfs pull'.")
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise ModelFormatError(f"{path} ({len(data)} bytes) is no ONNX model, or is truncated: {error}. {again}") from error
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ModelFormatError(f"{path} ({len(data)} bytes) holds no ONNX graph: it is another kind of file, or truncated. {again}")
    return model


def _check_text(message: Message) -> None:
    """Refuse names that are no text: protobuf hands those on as bytes, and nothing behind it expects that."""
    for field, content in message.ListFields():
        items = content if isinstance(content, Sequence) and not isinstance(content, str | bytes) else [content]
        if field.type == field.TYPE_STRING and any(isinstance(item, bytes) for item in items):
            bad = next(item for item in items if isinstance(item, bytes))
            raise ModelFormatError(
                f"The model's field {message.DESCRIPTOR.name}.{field.name} holds {bad[:40]!r}, which is no text: the file is damaged. "
                "Export or "
                "copy the model again."
            )
        if field.type == field.TYPE_MESSAGE:
            for item in items:
                _check_text(item)


def _spell_standard_domain(model: onnx.ModelProto) -> None:
    """Spell the standard domain '' everywhere; 'ai.onnx' means the same, but onnx's own tools do not mix them."""
    for graph in all_graphs(model.graph):
        for node in graph.node:
            node.domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    versions = {("" if o.domain in STANDARD_DOMAINS else o.domain): o.version for o in model.opset_import}
    del model.opset_import[:]
    for domain, version in versions.items():
        model.opset_import.add(domain=domain, version=version)


def _check_versions(model: onnx.ModelProto, warnings: list[str]) -> None:
    if model.ir_version < OLDEST_KNOWN_IR:
        raise ModelFormatError(
            f"The model's format is IR version {model.ir_version}; versions {OLDEST_KNOWN_IR} to {NEWEST_KNOWN_IR} are "
            "supported. Export it again with a newer exporter."
        )
    if model.ir_version > NEWEST_KNOWN_IR:
        warnings.append(f"The model's format is IR version {model.ir_version}, newer than {NEWEST_KNOWN_IR}, the newest that is tested.")
    versions = {o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS}
    if not versions:
        raise ModelFormatError(
            "The model does not say which version of the standard operator set it uses (opset_import lacks the domain ''): "
            "the file is truncated or its exporter is faulty. Export or copy it again."
        )
    version = max(versions)
    newest = onnx.defs.onnx_opset_version()
    if len(versions) > 1 or version > newest:
        raise ModelFormatError(
            f"The model imports version {', '.join(map(str, sorted(versions)))} of the standard operator set; one version, up to "
            f"{newest}, is supported. Export it with opset {NEWEST_TRIED_OPSET} or lower."
        )
    if not OLDEST_OPSET <= version <= NEWEST_TRIED_OPSET:
        warnings.append(f"The model uses opset {version}; opsets {OLDEST_OPSET} to {NEWEST_TRIED_OPSET} are tested.")

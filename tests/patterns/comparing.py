"""Compile a model, load the library it saved, and compare what it computes with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnncc
import bnncc.compiler

from .running import reference, sample_inputs

__all__ = ["compiled_outputs", "compare", "fail_on", "layer_bits", "misplaced"]


def compiled_outputs(folder: Path, feeds: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Run the library in `folder`; give its outputs by name, also where there is only one."""
    result = bnncc.load(folder)(feeds)
    return result if isinstance(result, dict) else {names[0]: result}


def layer_bits(artifact: Any) -> dict[str, tuple[bool, str]]:
    """Map each ONNX node of the report to whether it runs on bits, be it that those of its weights look up sums of codes, and the reason it gives."""
    return {row.node: (row.bits or row.reason.endswith("looked up by 4 signs"), row.reason) for row in artifact.report.layers}


def misplaced(artifact: Any, expected: dict[str, bool]) -> list[str]:
    """One line for each layer that runs on bits and should not, or the reverse; a float layer has to say why."""
    rows = layer_bits(artifact)
    lines = [f"{node}: not in the report" for node in expected if node not in rows]
    for node, bits in expected.items():
        if node in rows and rows[node][0] != bits:
            found, wanted = ("bits", "float") if rows[node][0] else ("float", "bits")
            lines.append(f"{node}: {found}, expected {wanted}; reason given: {rows[node][1]}")
    lines += [f"{node}: float without a reason" for node, (bits, reason) in rows.items() if not bits and not reason]
    return lines


def fail_on(problems: list[str]) -> None:
    """Fail the test with all `problems`, one a line."""
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def compare(
    model: onnx.ModelProto, folder: Path, *, twin: onnx.ModelProto | None = None, samples: Sequence[dict[str, np.ndarray]] = (),
    rtol: float = 1e-4, atol: float = 1e-4, **options: Any,
) -> tuple[Any, list[str]]:  # fmt: skip
    """Compile `model` into `folder`, and run it beside onnxruntime on `twin` (or `model` itself).

    Without `samples`, three of small integers are drawn; `options` go to the compiler.

    Returns
    -------
    artifact : the compiled model
    wrong : list of str
        One line for each output and sample that differs.
    """
    artifact = bnncc.compiler.compile(model, target="native", name="pattern", **options)
    artifact.save(folder)
    names = [output.name for output in model.graph.output]
    wrong = []
    drawn = samples or [sample_inputs(model, seed, options.get("shapes")) for seed in range(3)]
    for number, feeds in enumerate(drawn):
        expected = reference(twin or model, feeds)
        actual = compiled_outputs(folder, feeds, names)
        for name in names:
            if actual[name].shape != expected[name].shape:
                wrong.append(f"{name}, sample {number}: shape {actual[name].shape}, expected {expected[name].shape}")
                continue
            off = ~np.isclose(actual[name], expected[name], rtol=rtol, atol=atol)
            if off.any():
                where = tuple(int(i) for i in np.argwhere(off)[0])
                first = f"at {where} {actual[name][where]}, expected {expected[name][where]}"
                wrong.append(f"{name}, sample {number}: {off.mean():.1%} differ; {first}")
    return artifact, wrong

"""Each operator converter against onnxruntime: in NumPy for every opset that changed it, compiled by TVM for the newest."""

from __future__ import annotations

import pytest

from bnncc.frontend import import_onnx

from .comparing import differences, random_feeds, run_onnx, run_tvm, tensor_differences
from .operator_cases import CASES, Case, model_of

# Forms that only TVM computes: the NumPy interpreter has no meaning for what TVM's own importer makes of LRN, nor for cubic resizing.
_SINGLE = [
    pytest.param(case, opset, id=f"{case.name}-{opset}")
    for cases in CASES.values()
    for case in cases
    if case.op not in ("LRN", "TopK") and case.attributes.get("mode") != "cubic"
    for opset in case.versions()
]


@pytest.mark.parametrize("case, opset", _SINGLE)
def test_an_operator_gives_what_onnxruntime_gives(case: Case, opset: int) -> None:
    imported = import_onnx(model_of([case], opset))
    assert tensor_differences(imported, random_feeds(imported), tolerance=0 if case.exact else 1e-5) == []


@pytest.mark.parametrize("group", CASES)
@pytest.mark.parametrize("exact", [True, False])
def test_operators_compiled_by_tvm_give_what_onnxruntime_gives(group: str, exact: bool) -> None:
    by_opset: dict[int, list[Case]] = {}
    for case in CASES[group]:
        if case.exact == exact:
            by_opset.setdefault(case.opsets[1], []).append(case)
    for opset, cases in by_opset.items():
        imported = import_onnx(model_of(cases, opset))
        feeds = random_feeds(imported)
        names = [spec.name for spec in imported.outputs]
        wrong = differences(names, run_tvm(imported, feeds), run_onnx(imported.reference, feeds), 0 if exact else 1e-5)
        assert wrong == [], f"opset {opset}: " + ", ".join(f"{i} is {case.name}" for i, case in enumerate(cases))

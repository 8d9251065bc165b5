"""The pipeline on the example network: what each pass leaves computes what was imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tvm.relax import op

from bnncc.errors import InternalError
from bnncc.frontend import import_onnx
from bnncc.ops import bnn
from bnncc.ops.interpreter import run_module
from bnncc.passes.context import Options, PassContext, TensorView
from bnncc.passes.pipeline import PIPELINE, run_pipeline
from bnncc.passes.rewrite import const

from .programs import module

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
PASSES = [run.__name__ for _, passes in PIPELINE for run in passes]


@pytest.fixture(scope="module")
def imported():
    return import_onnx(DIGITS / "digits.onnx")


@pytest.fixture(scope="module")
def images(imported):
    (spec,) = imported.inputs
    with np.load(DIGITS / "test.npz") as data:
        return data["images"][:: 360 // spec.shape[0] or 1][: spec.shape[0], None].astype(np.float32) / 16


def context(imported, **options) -> PassContext:
    return PassContext(Options(**options), {var: TensorView(name) for var, name in imported.tensors.items()}, imported.nodes)


def first(result) -> np.ndarray:
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("word_bits", [32, 64])
def test_every_pass_keeps_the_scores_of_the_example_network(imported, images, word_bits):
    mod, ctx = imported.mod, context(imported, word_bits=word_bits)
    want = first(run_module(mod, images))
    for _, passes in PIPELINE:
        for run in passes:
            mod = run(mod, ctx)
            np.testing.assert_allclose(first(run_module(mod, images)), want, rtol=1e-5, atol=1e-5, err_msg=run.__name__)


def test_views_hold_at_the_end_of_the_logical_level(imported, images):
    """Every variable that stands for a tensor of the model holds its numbers."""
    mod, ctx = imported.mod, context(imported)
    before, after = {}, {}
    run_module(mod, images, observe=before.__setitem__)
    onnx = {name: before[var] for var, name in imported.tensors.items() if var in before}
    for _, passes in PIPELINE[:3]:
        for run in passes:
            mod = run(mod, ctx)
    run_module(mod, images, observe=after.__setitem__)
    checked = 0
    for var, value in after.items():
        view = ctx.tensors.get(var)
        if view is not None and view.onnx in onnx:
            np.testing.assert_allclose(view.to_onnx(value), onnx[view.onnx], rtol=1e-4, atol=1e-4, err_msg=f"{var} as {view.onnx}")
            checked += 1
    assert checked >= 5


def test_one_file_is_dumped_after_each_pass_in_order(imported, tmp_path):
    run_pipeline(imported.mod, context(imported), tmp_path / "ir")
    names = [f"{i:02d}_{name}.py" for i, name in enumerate(["import", *PASSES])]
    assert sorted(p.name for p in (tmp_path / "ir").iterdir()) == names
    texts = [(tmp_path / "ir" / name).read_text() for name in names]
    assert all("def main(" in text for text in texts)
    quantized, packed = (texts[PASSES.index(name) + 1] for name in ("recognise_quantize", "pack_bits"))
    assert "R.bnn." not in texts[0] and "R.bnn.quantize" in quantized and "R.bnn.packed_conv2d" in packed
    assert "group_1" in texts[-1] and not any("\x1b" in text for text in texts)


def test_progress_is_told_pass_by_pass(imported):
    seen = []
    run_pipeline(imported.mod, context(imported), progress=lambda *step: seen.append(step))
    assert seen == [("passes", i + 1, len(PASSES)) for i in range(len(PASSES))]


def test_what_breaks_a_contract_is_found_before_the_next_phase():
    mod = module(lambda c: op.negative(bnn.dequantize(c, const(np.float32(1)), const(np.float32(0)))), ((2, 3), "int8"))
    with pytest.raises(InternalError, match="After phase 'import'"):
        run_pipeline(mod, PassContext())


def test_the_same_module_gives_the_same_groups_every_time(imported):
    once, again = (run_pipeline(imported.mod, context(imported)) for _ in range(2))
    assert once.script(show_meta=True) == again.script(show_meta=True)


def test_layers_of_the_example_network_run_on_bits_but_for_the_first_and_last(imported):
    ctx = context(imported)
    run_pipeline(imported.mod, ctx)
    bits = [row.bits for row in ctx.layers]
    assert len(bits) >= 3 and all(bits[1:-1]) and not bits[0]

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.errors import InternalError
from bnncc.ops import bnn
from bnncc.passes.context import PassContext
from bnncc.passes.fuse_epilogue import fuse_epilogue
from bnncc.passes.pipeline import PIPELINE
from bnncc.passes.rewrite import const
from bnncc.passes.verify import PHASES, verify_phase

from .programs import binarized, module, signs

FLOATS, CODES, WORDS = ((1, 6, 6, 8), "float32"), ((1, 6, 6, 8), "int8"), ((1, 6, 6, 1), "uint64")
rng = np.random.default_rng(0)
W = const(rng.standard_normal((3, 3, 8, 4)).astype(np.float32))
SIGNS = const(signs(rng, 4, 3, 3, 8))
ONE, ZERO = const(np.float32(1)), const(np.float32(0))

codes = module(binarized, FLOATS)
logical = module(lambda c: bnn.max_pool2d(c, const(np.ones(8, np.int8)), (2, 2), (2, 2)), CODES)
dequantized = module(lambda c: bnn.dequantize(c, ONE, ZERO), CODES)
packed = module(lambda c: bnn.pack(c, 8), CODES)
floats = module(op.nn.relu, FLOATS)
nhwc = module(lambda x: op.nn.conv2d(x, W, data_layout="NHWC", kernel_layout="HWIO"), FLOATS)
nchw = module(lambda x: op.nn.max_pool2d(x, (2, 2)), FLOATS)
reshaped = module(lambda x: op.reshape(x, (6, 48)), FLOATS)
groups = fuse_epilogue(floats, PassContext())


@I.ir_module
class OpenShape:
    @R.function
    def main(x: R.Tensor(("n", 3), "float32")):
        with R.dataflow():
            y = R.nn.relu(x)
            R.output(y)
        return y


@I.ir_module
class UnknownShape:
    @R.function
    def main(x: R.Tensor("float32", ndim=2)):
        with R.dataflow():
            y = R.nn.relu(x)
            R.output(y)
        return y


def _untyped():
    x = relax.Var("x", relax.TensorType((2, 3), None))
    body = relax.BlockBuilder().normalize(relax.SeqExpr([relax.DataflowBlock([relax.VarBinding(y := relax.Var("y", x.ty), op.negative(x))])], y))
    return tvm.IRModule({"main": relax.Function([x], body, x.ty)})


VIOLATIONS = {
    ("import", "dialect has no place"): codes,
    ("import", "shape is not known"): OpenShape,
    ("import", "shape is not known "): UnknownShape,
    ("import", "type is not known"): _untyped(),
    ("recognise", "not an operator of the logical level"): packed,
    ("recognise", "its layout is NCHW"): nchw,
    ("recognise", "its layout is NCHW "): module(lambda x: op.nn.avg_pool2d(x, (2, 2)), FLOATS),
    ("recognise", "its layout is NCHW  "): module(lambda x: op.nn.conv2d(x, const(np.ones((4, 6, 3, 3), np.float32))), FLOATS),
    ("recognise", "shape is not known"): OpenShape,
    ("fold", "not an operator of the logical level"): packed,
    ("fold", "its layout is NCHW"): nchw,
    ("pack", "not an operator of the packed level"): logical,
    ("pack", "not an operator of the packed level "): dequantized,
    ("pack", "shape is not known"): OpenShape,
    ("fuse", "outside of any group"): floats,
    ("lower", "not lowered"): floats,
    ("lower", "not lowered "): groups,
}

KEPT = {
    "import": [floats, nchw],
    "recognise": [codes, logical, dequantized, nhwc, floats],
    "fold": [codes, logical, nhwc],
    "pack": [packed, floats, module(lambda x: bnn.pack(binarized(x), 8), FLOATS)],
    "fuse": [groups, reshaped],
    "lower": [reshaped],
}


@pytest.mark.parametrize("phase, problem", VIOLATIONS)
def test_a_broken_contract_names_phase_operator_and_problem(phase, problem):
    mod = VIOLATIONS[phase, problem]
    with pytest.raises(InternalError) as caught:
        verify_phase(mod, phase)
    message = str(caught.value)
    assert message.startswith(f"After phase {phase!r} ({PHASES[phase]})") and problem.strip() in message
    assert " is relax." in message or " is Call" in message


@pytest.mark.parametrize("phase", PHASES)
def test_a_kept_contract_passes(phase):
    for mod in KEPT[phase]:
        verify_phase(mod, phase)


def test_the_pipeline_checks_phases_that_have_contracts():
    assert [phase for phase, _ in PIPELINE] == list(PHASES)[:-1]

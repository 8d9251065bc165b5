"""NarrowDoubles: sums are scaled in double where a rounding follows, else in float32."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.relax import op

from bnncc.passes.context import Options, PassContext
from bnncc.passes.narrow_doubles import narrow_doubles
from bnncc.passes.rewrite import const
from tests.passes.programs import module, operators, rewritten, unchanged

SUMS = ((5, 3), "int32")
SCALE = np.array([1 / 3, 1e-3, 0.7])


def scaled(n):
    """Return sums times a scale that float32 does not hold, and a constant, rounded once."""
    wide = op.add(op.multiply(op.astype(n, "float64"), const(SCALE)), const(np.float64(0.1)))
    return op.astype(wide, "float32")


ROUNDED = {
    "rounded": lambda n: op.round(scaled(n)),
    "rounded after a sum and a ReLU": lambda n: op.round(op.nn.relu(op.add(scaled(n), op.astype(n, "float32")))),
    "compared": lambda n: op.greater(scaled(n), const(np.float32(0.3))),
    "made integers": lambda n: op.astype(op.multiply(scaled(n), const(np.float32(7))), "int8"),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_in_front_of_a_rounding_they_stay_double(name):
    unchanged(narrow_doubles, module(ROUNDED[name], SUMS))


@pytest.mark.parametrize("build", [scaled, lambda n: op.add(scaled(n), scaled(n)), lambda n: op.nn.softmax(scaled(n))], ids=["output", "sum", "softmax"])
def test_elsewhere_they_become_float32(build):
    after = rewritten(narrow_doubles, module(build, SUMS), None, np.arange(-7, 8, dtype=np.int32).reshape(5, 3), tolerance=1e-6)
    assert "float64" not in after.script() and operators(after)[:3] == ["astype", "multiply", "add"]


def test_a_processor_without_doubles_rounds_in_float32():
    after = rewritten(narrow_doubles, module(ROUNDED["rounded"], SUMS), PassContext(Options(has_doubles=False)), np.zeros((5, 3), np.int32))
    assert "float64" not in after.script()

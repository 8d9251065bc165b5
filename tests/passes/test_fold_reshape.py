"""FoldReshape: nothing but elementwise operators between an accumulator and its thresholds."""

from __future__ import annotations

import numpy as np
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.passes.fold_reshape import fold_reshape
from bnncc.passes.rewrite import const

from .programs import binarized, module, operators, rewritten, unchanged

IMAGE = ((1, 3, 3, 5), "float32")


def test_codes_are_flattened_instead_of_numbers():
    after = rewritten(fold_reshape, module(lambda x: binarized(op.reshape(x, (1, 45)), ternary=True), IMAGE))
    assert operators(after) == ["bnn.quantize", "reshape"]


def test_thresholds_of_their_own_stay_behind_the_reshape():
    thresholds = const(np.arange(45, dtype=np.float32)[None])
    unchanged(fold_reshape, module(lambda x: bnn.quantize(op.reshape(x, (1, 45)), thresholds, const(np.int8(1))), IMAGE))

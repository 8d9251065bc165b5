"""Groups that Relax's own legalization takes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from group_runner import CompiledGroup, check_exact, group
from tvm import relax
from tvm.script import relax as R

COMPILES = """
import sys
from group_runner import assembly, group
from tvm.script import relax as R
from bnncc.targets import find_target
for target in ("x86-64-v2", "x86-64-v3", "x86-64-v4"):
    for n in (1, 2, 3, 5, 7):
        function = group(lambda b, x, s: R.nn.instance_norm(x, s, s, 1, [2, 3]), ((1, n, 3, n), "float32"), ((n,), "float32"))
        assembly(function, find_target(target).variants[0])
        for mode in ("half_pixel", "asymmetric"):
            resize = lambda b, x: R.image.resize2d(x, (6, 2 * n), layout="NHWC", method="linear", coordinate_transformation_mode=mode)
            assembly(group(resize, ((1, 3, n, n), "float32")), find_target(target).variants[0])
"""


def test_short_scalar_loops_of_products_compile_for_every_target():
    """LLVM makes two-lane vectors of such loops, which it must be able to generate code for; in a process of its own, as LLVM's way to fail is to crash."""
    done = subprocess.run([sys.executable, "-c", COMPILES], cwd=__file__.rpartition("/")[0], capture_output=True, text=True)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cumsum_adds_up_what_stands_before(axis, exclusive, dtype, tmp_path):
    x = np.random.default_rng(1).integers(-9, 10, (3, 5, 4)).astype(dtype)
    function = group(lambda b, x: R.cumsum(x, axis=axis, exclusive=exclusive), (x.shape, dtype))
    (got,) = CompiledGroup(function, tmp_path)(x)
    np.testing.assert_array_equal(got, np.cumsum(x, axis, dtype) - (x if exclusive else 0))


def test_constants_of_one_element_are_written_into_the_code(tmp_path):
    x = np.random.default_rng(2).normal(size=(2, 3, 1)).astype(np.float32)
    scale, shift = (relax.const(np.array([v], np.float32)) for v in (2.0, 0.5))
    function = group(lambda b, x: R.nn.layer_norm(x, scale, shift, [-1]), (x.shape, "float32"))
    (got,) = CompiledGroup(function, tmp_path)(x)
    np.testing.assert_array_equal(got, np.full_like(x, 0.5))  # one element is its own mean


def test_a_tensor_read_twice_is_one_parameter(tmp_path):
    x = np.random.default_rng(3).integers(-3, 4, (2, 3, 3)).astype(np.float32)
    check_exact(group(lambda b, x: R.matmul(x, x), (x.shape, "float32")), [x], tmp_path)

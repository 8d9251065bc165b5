"""Dense layers and convolutions of few pixels, whose tables of weights no pixels share: bit for bit, what is chosen for them, and their code."""

from __future__ import annotations

import re

import numpy as np
import pytest
from group_runner import assembly, check_exact, group, words
from test_popcount_kernels import conv_bits, two_planes
from tvm import relax
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.schedules import build_kernel
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.sliced import sliced
from bnncc.targets.x86 import V2, V3, V4, runs_here

HERE = V3 if runs_here(V3) else V2


def dense(k: int, m: int, rows: int, falls: bool = False, sums: bool = False):
    """A dense layer with thresholds in both directions, or all of them falling, and words; with scaled sums in float if these are asked for."""
    rng = np.random.default_rng(k + m + rows)
    arrays = [words(rng, (rows,), 64, k), words(rng, (m,), 64, k), rng.integers(-9, 10, (1, m)).astype(np.int32)]
    arrays += [np.full(m, -1, np.int8) if falls else rng.choice(np.array([-1, 1], np.int8), m), rng.standard_normal(m).astype(np.float32)]

    def emit(b, x, w, t, f, scale):
        y = b.emit(bnn.packed_dense(x, w, channels=k))
        bits = bnn.pack(b.emit(bnn.quantize(y, t, f)), channels=m)
        return (R.multiply(b.emit(R.astype(y, "float32")), scale), bits) if sums else bits

    count = 5 if sums else 4
    params = [(a.shape, str(a.dtype)) for a in arrays[:count]]
    if not sums:
        return group(lambda b, *p: emit(b, *p, None), *params, constants=(1, 2, 3)), arrays[:count]
    return group(emit, *params, constants=(1, 2, 3, 4)), arrays


def vectors_of_a_case(note: str) -> int:
    """Return how many vectors of channels a case of the table has side by side."""
    found = re.search(r"(\d+) a case", note)
    return int(found[1]) if found else 1


@pytest.mark.parametrize("rows", range(1, 10))
def test_every_batch_size_is_exact(rows, tmp_path):
    check_exact(*dense(200, 1024, rows), tmp_path, HERE)


@pytest.mark.parametrize("m", [230, 256, 500, 512, 700, 768, 1000, 2048])
@pytest.mark.parametrize("sums", [True, False])
def test_channels_need_not_fill_the_vectors_of_a_case(m, sums, tmp_path):
    check_exact(*dense(129, m, 2, sums=sums), tmp_path, HERE)


@pytest.mark.parametrize("k", [1, 63, 64, 65, 784, 1000, 1024])
def test_inputs_need_not_fill_words(k, tmp_path):
    check_exact(*dense(k, 512, 1), tmp_path, HERE)


@pytest.mark.parametrize("falls", [True, False])
def test_lines_of_the_cases_are_asked_for_where_the_table_is_far(falls, tmp_path):
    function, arrays = dense(2048, 1024, 1, falls)
    assert "prefetch" in assembly(function, V3) and "prefetch" not in assembly(dense(256, 256, 1)[0], V3)
    check_exact(function, arrays, tmp_path, HERE)


@pytest.mark.parametrize("zeros", [False, True])
def test_codes_with_zeros_are_summed_over_two_planes(zeros, tmp_path):
    rng = np.random.default_rng(5)
    arrays = [two_planes(rng, (2,), 64, 200, 1, zeros), words(rng, (1024,), 64, 200), np.sort(rng.integers(-4, 5, (2, 1024)), axis=0).astype(np.int32)]

    def emit(b, x, w, t):
        y = b.emit(bnn.packed_dense(x, w, channels=200, planes=2))
        return y, bnn.pack(b.emit(bnn.quantize(y, t, relax.const(np.int8(1)), lo=-1, step=1)), channels=1024, planes=2)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2)), arrays, tmp_path, HERE)


@pytest.mark.parametrize("size, groups", [(3, 1), (4, 1), (4, 2)])
def test_small_convolutions_are_exact(size, groups, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(size), 128 * groups, 500 * groups, size, groups=groups), tmp_path, HERE)


@pytest.mark.parametrize("variant", [V2, V3, V4], ids=lambda v: v.name)
def test_every_variant_that_runs_here_is_exact(variant, tmp_path):
    if not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}")
    check_exact(*dense(256, 1024, 1), tmp_path, variant)


def shape_of(inputs: int, outputs: int, pixels: int = 1) -> BinaryShape:
    return BinaryShape("uint64", 1, outputs, inputs, (1, 1), pixels, 1)


def test_few_pixels_take_a_table_that_is_near_and_two_lines_a_case():
    assert vectors_of_a_case(sliced(shape_of(1024, 1024), V3).name) == 4
    assert vectors_of_a_case(sliced(shape_of(1024, 768), V3).name) == 1, "three vectors do not fill lines"
    assert vectors_of_a_case(sliced(shape_of(2048, 1024), V3).name) == 2, "two threads share the channels"
    assert vectors_of_a_case(sliced(shape_of(1024, 1024, pixels=8), V3).name) == 1, "many pixels read all cases"
    assert sliced(shape_of(4096, 4096), V3) is None, "packed weights are read sooner from there"
    assert sliced(shape_of(4096, 4096, pixels=4), V3), "four pixels share a table"
    assert sliced(shape_of(1024, 1024), V4) is None, "no machine at hand has timed it beside a vector popcount"


def test_dense_layers_choose_by_size():
    assert build_kernel(dense(1024, 1024, 1)[0], V3).note.startswith("sliced")

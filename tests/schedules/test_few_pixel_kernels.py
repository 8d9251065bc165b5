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
from bnncc.schedules import build_kernel, packed
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.sliced import sliced
from bnncc.schedules.x86.carry_save import carry_save_formulation
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
    function, arrays = dense(1024, 1024, 4, falls)
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


@pytest.fixture
def carried(monkeypatch):
    """Choose the popcount after carry-save adders for every shape."""
    monkeypatch.setattr(packed, "choose_formulation", lambda builder, shape: carry_save_formulation(shape, builder.variant, builder.choices))


@pytest.mark.parametrize("k", [1, 64, 960, 1024, 1030, 2048, 2500])
@pytest.mark.parametrize("m, rows", [(3, 1), (10, 4), (65, 1)])
def test_carry_save_sums_are_exact(k, m, rows, carried, tmp_path):
    check_exact(*dense(k, m, rows, sums=m == 10), tmp_path, HERE)


@pytest.mark.parametrize("ci, co, groups", [(130, 30, 1), (128, 6, 2), (33, 33, 33)])
@pytest.mark.parametrize("variant", [V2, HERE], ids=lambda v: v.name)
def test_carry_save_sums_go_over_all_taps(ci, co, groups, variant, carried, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(ci), ci, co, 5, groups=groups), tmp_path, variant)


@pytest.mark.parametrize("zeros", [False, True])
def test_carry_save_sums_over_two_planes(zeros, carried, tmp_path):
    rng = np.random.default_rng(5)
    arrays = [two_planes(rng, (2,), 64, 1200, 1, zeros), words(rng, (10,), 64, 1200)]
    params = [(a.shape, "uint64") for a in arrays]
    check_exact(group(lambda b, x, w: bnn.packed_dense(x, w, channels=1200, planes=2), *params, constants=(1,)), arrays, tmp_path, HERE)


@pytest.mark.parametrize("differ", [True, False])
def test_carry_save_counts_all_bits_or_none(differ, carried, tmp_path):
    x, w = (np.full(shape, value, np.uint64) for shape, value in (((1, 64), -differ % (1 << 64)), ((8, 64), 0)))
    check_exact(group(lambda b, x, w: bnn.packed_dense(x, w, channels=4096), (x.shape, "uint64"), (w.shape, "uint64"), constants=(1,)), [x, w], tmp_path, HERE)


def test_carry_save_sums_stay_in_registers(carried):
    """The loop over 16 words: as many loads of weights, 15 adders of 5 instructions and 9 for the bits; nothing stored."""
    code = assembly(dense(4096, 64, 1)[0], V3)
    (main,) = (part for part in re.split(r"^\.LBB\S+:", code, flags=re.M) if len(re.findall(r"^\tvpxor\s+\S*\(", part, re.M)) == 16)
    main = [line.split("\t")[1:] for line in re.split(r"^\tj", main, flags=re.M)[0].splitlines() if line.startswith("\tv")]
    assert sum(name == "vpshufb" for name, *_ in main) == 2 and not [line for line in main if line[1].endswith(")")], "nothing is stored"
    assert len(main) <= 16 + 16 + 15 * 5 + 9


def shape_of(inputs: int, outputs: int, pixels: int = 1) -> BinaryShape:
    return BinaryShape("uint64", 1, outputs, inputs, (1, 1), pixels, 1)


def test_few_pixels_take_a_table_that_is_near_and_two_lines_a_case():
    assert vectors_of_a_case(sliced(shape_of(1024, 1024, pixels=4), V3).name) == 4
    assert vectors_of_a_case(sliced(shape_of(1024, 768, pixels=4), V3).name) == 1, "three vectors do not fill lines"
    assert vectors_of_a_case(sliced(shape_of(2048, 1024, pixels=7), V3).name) == 2, "two threads share the channels"
    assert vectors_of_a_case(sliced(shape_of(1024, 1024, pixels=8), V3).name) == 1, "many pixels read all cases"
    assert sliced(shape_of(1024, 1024), V4) is None, "no machine at hand has timed it beside a vector popcount"


def test_dense_layers_choose_by_size():
    def chosen(*sizes) -> str:
        return build_kernel(dense(*sizes)[0], V3).note.partition(",")[0]

    assert chosen(512, 512, 1) == "sliced" and chosen(1024, 128, 1) == "lookup"
    assert chosen(1024, 1024, 1) == chosen(4096, 4096, 1) == "sliced by ones" and chosen(8192, 100, 1) == "carry-save popcount"
    assert chosen(1024, 10, 1) == "popcount"

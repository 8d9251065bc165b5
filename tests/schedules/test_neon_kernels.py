"""Kernels for 64-bit Arm, bit for bit under an emulator, and their code."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from group_runner import assembly, check_exact
from test_popcount_kernels import conv_bits

from bnncc.schedules import build_kernel, packed
from bnncc.schedules.formulations.sliced import sliced_formulation
from bnncc.schedules.neon.popcount import popcount_tree
from bnncc.targets import find_target

NEON = find_target("cortex-a76").variants[0]
FORMULATIONS = {"tree": popcount_tree, "sliced": sliced_formulation}
emulated = pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")), reason="qemu-user and gcc-aarch64-linux-gnu are not installed"
)


@pytest.fixture(params=FORMULATIONS)
def formulation(request, monkeypatch):
    monkeypatch.setattr(packed, "choose_formulation", lambda builder, shape: FORMULATIONS[request.param](shape, builder.variant))


@emulated
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (63, 7), (64, 64), (65, 33), (130, 129)])
def test_channels_need_not_fill_words_or_registers(inputs, outputs, formulation, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(inputs), inputs, outputs, 7), tmp_path, NEON)


@emulated
@pytest.mark.parametrize("options", [{"bits": 8}, {"bits": 16}, {"bits": 32}, {"out_bits": 8}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"border": True}], ids=str)
def test_words_strides_dilations_groups_and_borders_are_exact(options, formulation, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(3), 64, 48, 9, **options), tmp_path, NEON)


@emulated
def test_counts_beyond_16_bits_take_the_plain_popcount(tmp_path):
    function, arrays = conv_bits(np.random.default_rng(4), 3712, 8, 3)
    assert build_kernel(function, NEON).note.startswith("popcount,")
    check_exact(function, arrays, tmp_path, NEON)


@pytest.mark.parametrize("channels, size", [(64, 58), (128, 30), (256, 16), (512, 9)])
def test_the_inner_loops_of_the_tree_spill_nothing_and_count_bytes(channels, size):
    function, _ = conv_bits(np.random.default_rng(5), channels, channels, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "choose_formulation", lambda builder, shape: popcount_tree(shape, builder.variant))
        code = assembly(function, NEON)
    loops = [body for body in basic_blocks(code) if body.count("\tcnt\t") > 8]
    assert loops
    for body in loops:
        assert not re.search(r"\[sp[,\]]", body), "the loop uses the stack"
        # four words of 128 bits take four eor, four cnt, three addp and one uadalp
        assert 3 * body.count("\tcnt\t") == 4 * body.count("\taddp\t") == 12 * body.count("\tuadalp\t")
        assert "uaddlp" not in body


def basic_blocks(code: str) -> list[str]:
    """Cut assembly at labels and branches."""
    return re.split(r"(?m)^\.LBB\w+:|^\tb(?:\.\w+)?\t.*$", code)

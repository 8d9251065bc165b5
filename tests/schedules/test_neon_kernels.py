"""Kernels for 64-bit Arm, bit for bit under an emulator, and their code."""

from __future__ import annotations

import re
import shutil

import arm_cycles
import arm_instructions
import numpy as np
import pytest
from covering import in_turn
from group_runner import assembly, check_exact
from test_popcount_kernels import conv_bits

from bnncc.schedules import build_kernel, packed
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.sliced import sliced_formulation
from bnncc.schedules.neon.cost import sliced_cost, tree_cost
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
@pytest.mark.parametrize(
    "options", [{"bits": 8}, {"bits": 16}, {"bits": 32}, {"out_bits": 8}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"border": True}], ids=str
)
def test_words_strides_dilations_groups_and_borders_are_exact(options, formulation, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(3), 64, 48, 9, **options), tmp_path, NEON)


@emulated
def test_counts_beyond_16_bits_take_another_than_the_tree(tmp_path):
    function, arrays = conv_bits(np.random.default_rng(4), 3712, 8, 3)
    assert build_kernel(function, NEON).note.startswith(("popcount,", "sliced"))
    check_exact(function, arrays, tmp_path, NEON)


@pytest.mark.parametrize("channels, size", [(64, 58), (128, 30), (256, 16), (512, 9)])
@pytest.mark.parametrize("target", ["aarch64", "cortex-a53", "cortex-a55", "cortex-a76", "apple-m1"])
def test_the_inner_loops_of_the_tree_spill_nothing_and_count_bytes(channels, size, target):
    for body in inner_loops(channels, size, target, popcount_tree, "cnt"):
        assert not STACK.search(body), "the loop uses the stack"
        # n registers of 128 bits take n eor, n cnt, n - 1 addp and one uadalp
        counts, pairs, sums = (body.count(f"\t{name}\t") for name in ("cnt", "addp", "uadalp"))
        assert counts == body.count("\teor\t") == pairs + sums
        assert sums * (4 if channels == 64 else 8) == counts
        assert "uaddlp" not in body


@pytest.mark.parametrize("target, channels, size", in_turn(["aarch64", "cortex-a55", "cortex-a76", "apple-m1"], [(128, 30), (256, 16), (512, 9)]))
def test_the_lookups_of_sliced_spill_nothing_and_add_nothing_to_addresses(channels, size, target):
    for body in inner_loops(channels, size, target, sliced_formulation, "b(?:sl|it|if)"):
        assert not STACK.search(body), "the loop uses the stack"
        # the case has the row in it, and the load adds it to the base, 16 bytes each
        lookups = len(re.findall(r"\tldu?rb\t", body))
        rows = len(re.findall(r"\tldr\tq\d+, \[x\d+, (?:x\d+, lsl|w\d+, uxtw) #4\]", body))
        # the last two lookups of a table of an even number of words share a case: one shift for both
        shared = len(re.findall(r"\tldr\tq\d+, \[x\d+, x\d+\]", body))
        assert lookups in (64, 128)
        assert rows + shared / 2 == lookups and shared in (0, 2)
        assert len(re.findall(r"\tadd\t", body)) < 12, "more than the loop's own pointers"
        assert len(re.findall(r"\tmov\tv", body)) <= lookups / 6, "copies before selects"


@emulated
@pytest.mark.parametrize("channels, size, tree_most", [(64, 56, 3.05), (128, 28, 2.95), (256, 14, 2.95), (512, 7, 2.95)])
def test_instructions_of_a_layer_stay_within_their_bounds_and_the_model_foresees_them(channels, size, tree_most, tmp_path, monkeypatch):
    plugin = arm_instructions.counter(tmp_path)
    shape = BinaryShape("uint64", 1, channels, channels, (3, 3), size, 1, answers=True)
    for name, cost in (("tree", tree_cost), ("sliced", sliced_cost)):
        monkeypatch.setattr(packed, "choose_formulation", lambda builder, shape, name=name: FORMULATIONS[name](shape, builder.variant))
        total, vector, _ = arm_instructions.count(arm_instructions.convolution(channels, size), "cortex-a76", plugin, tmp_path)
        expected = cost(shape)
        assert total == pytest.approx(size * size * expected.instructions, rel=0.15)
        assert vector == pytest.approx(size * size * expected.vector_operations, rel=0.15)
        if name == "tree":
            assert total <= tree_most * 1e6
        elif channels >= 128:
            words = size**2 * channels**2 * 9 / 128
            assert total <= 3.1 * words and vector <= 1.75 * words, "of 128 bits"


def test_the_formulation_follows_the_processor_and_the_shape():
    def note(channels, outputs, target="cortex-a76"):
        return build_kernel(conv_bits(np.random.default_rng(6), channels, outputs, 9, sums=False)[0], find_target(target).variants[0]).note

    assert note(64, 64).startswith("popcount tree") and note(256, 256).startswith("sliced")
    assert note(256, 8).startswith("popcount tree"), "a register of 128 lanes for 8 channels"
    assert note(256, 256, "cortex-a55").startswith("sliced")
    assert note(256, 256, "cortex-a53").startswith("popcount tree"), "all of its operations on vectors take long"


@pytest.mark.skipif(not shutil.which("llvm-mca-19"), reason="llvm-19 is not installed")
@pytest.mark.parametrize("model, most", [("cortex-a55", 0.90), ("neoverse-n1", 0.70), ("neoverse-n2", 0.65), ("neoverse-v2", 0.75), ("apple-m1", 0.80)])
def test_sliced_takes_fewer_cycles_than_the_tree_by_llvms_models(model, most):
    target = dict((model, target) for target, model in arm_cycles.PROCESSORS)[model]
    tree, sliced = (arm_cycles.cycles_of_a_word(name, 256, 14, target, model) for name in ("tree", "sliced"))
    assert sliced <= most * tree


STACK = re.compile(r"\[sp[,\]]")


def inner_loops(channels: int, size: int, target: str, formulation, operation: str) -> list[str]:
    """Return the basic blocks of a convolution that consist of more than 8 of an operation."""
    function, _ = conv_bits(np.random.default_rng(5), channels, channels, size, sums=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "choose_formulation", lambda builder, shape: formulation(shape, builder.variant))
        code = assembly(function, find_target(target).variants[0])
    loops = [body for body in basic_blocks(code) if len(re.findall(rf"\t{operation}\t", body)) > 40]
    assert loops
    return loops


def basic_blocks(code: str) -> list[str]:
    """Cut assembly at labels and branches."""
    return re.split(r"(?m)^\.LBB\w+:|^\tb(?:\.\w+)?\t.*$", code)

"""Instructions of binary layers on microcontrollers, counted under QEMU: firmware of one layer each, with threshold, packing, padding and transpositions.

    python benchmarks/cortex_m.py [--core cortex-m4] [--layer PART_OF_A_NAME] [--optimize-for speed] [--no-assembly]

Prints instructions per 32 multiply-accumulates (a word of weights); for the plain layers beside the figures that issue 6 asks for, for the others beside the
plain 3x3 layer of like size. Around the layer stand a sign that packs the input and a dense layer of one output; neither is counted. First layers read bytes of
an image, planes of channels, and everything from there to the packed bits is counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bnncc import compile
from bnncc.boards import count_project, find_board, write_project
from bnncc.errors import BudgetError
from bnncc.passes.context import SIGN_ZERO
from bnncc.spec import ByteInput
from bnncc.targets import OPTIMIZE_FOR

__all__ = ["BOARDS", "LAYERS", "Layer", "instructions_a_word"]

PLAIN = 4
"""How many of the layers have figures asked for."""

BOARDS = {
    "cortex-m0": "mps2-an385",  # the code of M0 on the M3: the RAM of QEMU's M0 board holds none of these inputs
    "cortex-m0plus": "mps2-an385",
    "cortex-m3": "mps2-an385",
    "cortex-m4": "mps2-an386",
    "cortex-m7": "mps2-an500",
    "cortex-m33": "mps2-an505",
    "cortex-m55": "mps3-an547",
}

SOFT_FLOAT = re.compile("__(aeabi_(c?f|u?i2f)|clz|.*sf)")
"""What the sign before the layer and the output behind it call on cores without floating point."""

ASKED = {
    **dict.fromkeys(("cortex-m0", "cortex-m0plus"), (4.9, 4.7, 6.1, 5.0)),
    **dict.fromkeys(("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"), (4.1, 4.0, 5.0, 4.3)),
    "cortex-m55": (1.4, 2.5, 1.6, 1.6),
}

ASKED_IN_C = (6.0, 5.8, 7.3, 6.1)
"""Of the cores without Thumb-2 where the file's loop of assembly is left out."""

NO_ASSEMBLY = "-DNO_ASSEMBLY"


@dataclass(frozen=True)
class Layer:
    """A binary layer on signs, with a threshold a channel; `size` is that of the convolution's output, 0 makes a dense layer.

    Parameters
    ----------
    like : int
        The plain layer that it is compared with.
    pad : {"plus", "zero"}
        What stands around the image.
    pool : int
        Height and width of the windows of a maximum, 1: none.
    pool_step : int
        From one window to the next, 0: as wide as they are.
    is_first : bool
        Whether it reads bytes that stand for -128 to 127, not signs.
    """

    name: str
    inputs: int
    outputs: int
    size: int
    like: int = 0
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    pad: str = "plus"
    pool: int = 1
    pool_step: int = 0
    is_first: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.outputs * self.inputs // self.groups * (self.size**2 * self.kernel**2 if self.size else 1)

    def model(self):
        """Return the ONNX model."""
        rng = np.random.default_rng(0)
        source = (1, self.inputs, self.size * self.stride, self.size * self.stride) if self.size else (1, self.inputs)
        constants, nodes = {}, [] if self.is_first else [helper.make_node("Sign", ["x"], ["signs"], "before")]
        if self.size:
            around, image = (self.kernel - 1) // 2, "x" if self.is_first else "signs"
            pads = [around] * 4
            if self.pad == "plus" and around:
                constants |= {"pads": np.array([0, 0, around, around] * 2, np.int64), "one": np.float32(1)}
                nodes.append(helper.make_node("Pad", [image, "pads", "one"], ["padded"], "pad"))
                image, pads = "padded", [0] * 4
            weights = (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)
            nodes.append(helper.make_node("Conv", [image, "w"], ["sums"], "conv", pads=pads, strides=[self.stride] * 2, group=self.groups))
        else:
            weights = (self.inputs, self.outputs)
            nodes.append(helper.make_node("MatMul", ["signs", "w"], ["sums"], "dense"))
        constants["w"] = rng.choice(np.array([-1, 1], np.float32), weights)
        # half a number: no sum meets it, so that the sign is never 0
        constants["t"] = (rng.integers(-9, 10, (1, self.outputs, *(1, 1)[: 2 * bool(self.size)])) + 0.5).astype(np.float32)
        nodes += [helper.make_node("Add", ["sums", "t"], ["moved"], "move"), helper.make_node("Sign", ["moved"], ["bits"], "sign")]
        last, left = "bits", self.size**2 if self.size else 1
        if self.pool > 1:
            step = self.pool_step or self.pool
            nodes.append(helper.make_node("MaxPool", ["bits"], ["pooled"], "pool", kernel_shape=[self.pool] * 2, strides=[step] * 2))
            last, left = "pooled", ((self.size - self.pool) // step + 1) ** 2
        constants["one_output"] = rng.choice(np.array([-1, 1], np.float32), (self.outputs * left, 1))
        nodes += [helper.make_node("Flatten", [last], ["flat"], "flatten"), helper.make_node("MatMul", ["flat", "one_output"], ["y"], "behind")]
        ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (("x", source), ("y", (1, 1)))]
        graph = helper.make_graph(nodes, "layer", *ends, [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


FIRST_LAYERS = (
    ("first 3 to 64@32x32", (3, 64, 32), {}),
    ("first 3 to 32@32x32", (3, 32, 32), {}),
    ("first 3 to 16@32x32", (3, 16, 32), {}),
    ("first 3 to 64@16x16 stride 2", (3, 64, 16), {"stride": 2}),
    ("first 5x5 3 to 32@32x32", (3, 32, 32), {"kernel": 5}),
    ("first 1 to 32@28x28", (1, 32, 28), {}),
    ("first 5x5 1 to 32@28x28", (1, 32, 28), {"kernel": 5}),
    ("first 2 to 32@28x28", (2, 32, 28), {}),
    ("first 4 to 32@28x28", (4, 32, 28), {}),
)

LAYERS = (
    Layer("3x3 64@16x16", 64, 64, 16),
    Layer("3x3 128@8x8", 128, 128, 8),
    Layer("3x3 32@28x28", 32, 32, 28),
    Layer("dense 1024", 1024, 1024, 0),
    Layer("zero padding 64@16x16", 64, 64, 16, pad="zero"),
    Layer("zero padding 128@8x8", 128, 128, 8, 1, pad="zero"),
    Layer("zero padding 32@28x28", 32, 32, 28, 2, pad="zero"),
    Layer("stride 2 64@16x16", 64, 64, 16, stride=2),
    Layer("stride 2 64 to 128@8x8", 64, 128, 8, 1, stride=2),
    Layer("pool 2x2 64@16x16", 64, 64, 16, pool=2),
    Layer("pool 2x2 32@28x28", 32, 32, 28, 2, pool=2),
    Layer("pool 3x3 stride 2 64@16x16", 64, 64, 16, pool=3, pool_step=2),
    Layer("pool 3x3 stride 1 64@16x16", 64, 64, 16, pool=3, pool_step=1),
    Layer("pool 2x2 stride 1 64@16x16", 64, 64, 16, pool=2, pool_step=1),
    Layer("1x1 256@16x16", 256, 256, 16, kernel=1),
    Layer("1x1 64@16x16", 64, 64, 16, kernel=1),
    Layer("1x1 stride 2 128@16x16", 128, 128, 16, kernel=1, stride=2),
    Layer("2 groups 128@16x16", 128, 128, 16, groups=2),
    Layer("4 groups 128@8x8", 128, 128, 8, 1, groups=4),
    Layer("3x3 48@16x16", 48, 48, 16),
    Layer("3x3 100@8x8", 100, 100, 8, 1),
    Layer("dense 1000", 1000, 1000, 0, 3),
    Layer("dense 512", 512, 512, 0, 3),
    *(Layer(name, *shape, is_first=True, pad="zero", **how) for name, shape, how in FIRST_LAYERS),
)


def instructions_a_word(
    layer: Layer, core: str, optimize_for: str = "speed", sign_zero: str = "plus", keep: Path | None = None, assembly: bool = True
) -> tuple[float, str]:
    """Return instructions per 32 multiply-accumulates and what kernel was taken; the project is left in `keep`, where given."""
    with tempfile.TemporaryDirectory(prefix="bnncc-") as temporary:
        place = Path(temporary)
        meaning = {"": ByteInput(1 / 128, 128)} if layer.is_first else None
        artifact = compile(layer.model(), target=core, name="layer", sign_zero=sign_zero, optimize_for=optimize_for, byte_inputs=meaning)
        metadata = artifact.save(place / "c")
        project = place / "project" if keep is None else keep
        write_project(dataclasses.replace(find_board(BOARDS[core]), target=core), place / "c", project)
        if not assembly:
            makefile = project / "Makefile"
            makefile.write_text(makefile.read_text().replace("CFLAGS = ", f"CFLAGS = {NO_ASSEMBLY} ", 1))
        rows = count_project(project)  # in the order of the layers
        first = next((i + 1 for i, row in enumerate(rows) if "before" in row.layers.split()), 0)
        spent = sum(row.instructions for row in rows[first:] if "behind" not in row.layers.split() and not SOFT_FLOAT.match(row.function))
    (notes,) = metadata["model"]["kernel_notes"].values()
    return spent / (layer.macs / 32), next(note for note in notes.values() if any(part in note for part in ("lanes", "tree", " by int8")))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core", action="append", choices=BOARDS)
    parser.add_argument("--layer", action="append", default=[], help="only those whose names hold this, and the plain layers that they are compared with")
    parser.add_argument("--optimize-for", choices=OPTIMIZE_FOR, default="speed")
    parser.add_argument("--sign-zero", choices=SIGN_ZERO, default="plus", help="exact: the input may hold zeros, in a second plane, though here it holds none")
    parser.add_argument("--no-assembly", action="store_true", help=f"compile the C with {NO_ASSEMBLY}: matters to the cores without Thumb-2")
    parser.add_argument("--keep", type=Path, help="folder for the projects")
    options = parser.parse_args()
    chosen = [i for i, layer in enumerate(LAYERS) if not options.layer or any(part in layer.name for part in options.layer)]
    chosen = sorted({*chosen, *(LAYERS[i].like for i in chosen if not LAYERS[i].is_first)})
    for core in options.core or BOARDS:
        figures = ASKED_IN_C if options.no_assembly and ASKED[core] == ASKED["cortex-m0"] else ASKED[core]
        print(f"\n{core}{', no assembly' * options.no_assembly}, instructions per 32 MAC\n")
        print("| layer | counted | asked | to plain | kernel |\n|---|---|---|---|---|")
        found: dict[int, float] = {}
        for i in chosen:
            layer = LAYERS[i]
            keep = None if options.keep is None else options.keep / core / layer.name.replace(" ", "_")
            try:
                found[i], note = instructions_a_word(layer, core, options.optimize_for, options.sign_zero, keep, not options.no_assembly)
            except BudgetError as error:
                print(f"| {layer.name} | - | | | {error} |", flush=True)
                continue
            asked = "15" if layer.is_first else f"{figures[i]:.1f}" if i < PLAIN else "1.3x"
            ratio = "" if i < PLAIN or layer.is_first or layer.like not in found else f"{found[i] / found[layer.like]:.2f}"
            print(f"| {layer.name} | {found[i]:.2f} | {asked} | {ratio} | {note} |", flush=True)


if __name__ == "__main__":
    main()

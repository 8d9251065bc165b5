"""Trained networks on microcontroller boards in QEMU: accuracy on test images, equality with this machine's library, instructions, flash and RAM.

    python benchmarks/firmware.py [--models tfc,gtsrb] [--boards microbit,mps2-an386] [--images 100]

Prints a Markdown row for each network and board as it is done; the table of the README is made of these. Images are bytes; networks and images lie in
../shared. Kernels are those for speed, or for flash where these do not fit (marked). Exits with 1 where an output differs from this machine's library by more
than a millionth (a softmax of another C library).
"""

from __future__ import annotations

import argparse
import lzma
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import bnncc
from bnncc.boards import find_board, measure_memory, run_project
from bnncc.errors import BudgetError
from bnncc.report.board import write_firmware
from bnncc.report.firmware import count_firmware
from bnncc.report.reference import Reference
from bnncc.spec import ByteInput

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CORES = ("mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547", "riscv32-virt")


@dataclass(frozen=True)
class Network:
    """A trained network with test images.

    Parameters
    ----------
    model, data : Path
        ONNX (or .xz), and an .npz of images x and labels y.
    shape : tuple of int
        Of the input, for one image.
    meaning : ByteInput, optional
        Of a byte; None where the input stays float32.
    prepare : callable
        From the images of the file to the input's numbers.
    boards : tuple of str
    """

    model: Path
    data: Path
    shape: tuple[int, ...]
    meaning: ByteInput | None
    prepare: Callable
    boards: tuple[str, ...]


def fixed_point(x: np.ndarray) -> np.ndarray:
    """Return bytes of which q = byte - 128 is what the network was trained on."""
    pixels = x.transpose(0, 3, 1, 2).astype(np.int32)
    return (np.minimum(pixels - 128 + (pixels >= 128), 127) + 128).astype(np.uint8)


MODELS, DATA = SHARED / "models", SHARED / "data"
NETWORKS = {
    "tfc": Network(
        MODELS / "tfc_1w1a.onnx",
        DATA / "mnist_t10k_first1000.npz",
        (1, 1, 28, 28),
        ByteInput(1 / 255),
        lambda x: x,
        ("microbit", "mps2-an385", *CORES),
    ),
    "gtsrb": Network(MODELS / "gtsrb_bnn_30.onnx", DATA / "gtsrb_test_30.npz", (1, 30, 30, 3), ByteInput(), lambda x: x, CORES),
    "cnv": Network(MODELS / "cnv_w1a1_cifar10.onnx.xz", DATA / "cifar10_test_100.npz", (1, 3, 32, 32), ByteInput(1 / 128, 128), fixed_point, CORES),
    "digits": Network(
        ROOT / "examples/digits/digits.onnx", ROOT / "examples/digits/test.npz", (1, 1, 8, 8), None, lambda x: x.astype(np.float32) / 16, CORES
    ),
}


@dataclass(frozen=True)
class Row:
    """What one network does on one board; right of all images: there, in this machine's library, and by onnxruntime without optimization."""

    network: str
    board: str
    target: str
    images: int
    right: int
    right_here: int
    right_reference: int
    largest: float
    instructions: int
    milliseconds: float | None
    flash: int
    ram: int

    def __str__(self) -> str:
        estimate = "-" if self.milliseconds is None else f"{self.milliseconds:,.1f}"
        equal = "bit for bit" if self.largest == 0 else f"{self.largest:.1g}"
        known = [f"{self.right} of {self.images}", str(self.right_here), str(self.right_reference), equal, f"{self.instructions:,}", estimate]
        return "| " + " | ".join([self.network, self.board, self.target, *known, f"{self.flash:,}", f"{self.ram:,}"]) + " |"


HEADER = "| network | board | core | right | right here | onnxruntime | outputs equal | instructions | estimated ms | flash | RAM |\n|" + "---|" * 11


def measure(name: str, board: str, images: int) -> Row:
    """Run a network's firmware on the first images, and count what one run takes."""
    network, chosen = NETWORKS[name], find_board(board)
    with np.load(network.data) as held:
        keys = sorted(held.files, key=lambda key: held[key].ndim)
        labels, x = held[keys[0]][:images], network.prepare(held[keys[-1]][:images]).reshape(-1, *network.shape)
    with tempfile.TemporaryDirectory(prefix="bnncc-firmware-") as folder:
        model, project, library = Path(folder) / network.model.name.removesuffix(".xz"), Path(folder) / "project", Path(folder) / "library"
        content = network.model.read_bytes()
        model.write_bytes(lzma.decompress(content) if network.model.suffix == ".xz" else content)
        spec = onnx.load(model).graph.input[0].name
        options = {"shapes": {spec: network.shape}, "byte_inputs": network.meaning and {"": network.meaning}}
        try:
            write_firmware(model, chosen, project, **options)
        except BudgetError:
            write_firmware(model, chosen, project, optimize_for="flash", **options)
            board += " (flash)"
        memory, counts = measure_memory(project), count_firmware(project)
        native = bnncc.compile(model, target="native", **options)
        native.save(library)
        (output,) = (spec.name for spec in native.model.outputs)
        reference = Reference(native.model.reference, [output])
        wanted = np.stack([reference.run({spec: image})[output] for image in x]).reshape(len(x), -1)
        here = np.stack([bnncc.load(library)(image) for image in x]).reshape(len(x), -1)
        made = run_project(project, [{spec: image} for image in x], timeout=1200)
        there = np.stack([next(iter(outputs.values())) for outputs in made]).reshape(len(x), -1)
    largest = float(np.abs(here - there).max() / np.abs(here).max())
    right = [int((made.argmax(1) == labels).sum()) for made in (there, here, wanted)]
    used = [sum(parts.values()) for parts in (memory.flash, memory.ram)]
    return Row(name, board, chosen.target, len(x), *right, largest, counts.instructions, counts.milliseconds, *used)


def rows(models: list[str], boards: list[str] | None, images: int) -> Iterator[Row]:
    """Yield the rows."""
    for name in models:
        for board in boards or NETWORKS[name].boards:
            if board in NETWORKS[name].boards:
                yield measure(name, board, images)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--boards", default="", help="by default those that a network fits")
    parser.add_argument("--images", type=int, default=100)
    given = parser.parse_args()
    print(HEADER)
    worst = 0.0
    for row in rows(given.models.split(","), [board for board in given.boards.split(",") if board], given.images):
        print(row, flush=True)
        worst = max(worst, row.largest)
    return int(worst > 1e-6)


if __name__ == "__main__":
    raise SystemExit(main())

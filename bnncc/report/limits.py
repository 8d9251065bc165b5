"""What the machine at hand can do at most: measured rates of each formulation's least instructions, and of reading and copying."""

from __future__ import annotations

import ctypes
import functools
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bnncc.errors import ToolchainError
from bnncc.toolchain import find_compiler

__all__ = ["Limit", "Meter", "StepWork"]

# By code variant and formulation (the first word of a kernel's note): the number of the mix in measure.c, and the multiply-accumulates of one step of it.
_MIXES = {
    "v3": {"float": (0, 8), "popcount": (1, 256), "lookup": (2, 128), "sliced": (3, 1024), "pairs": (4, 16), "sums": (9, 32), "carry-save": (11, 4096)},
    "v4": {"float": (5, 16), "popcount": (6, 512), "sliced": (7, 1024), "pairs": (8, 32), "sums": (10, 64)},
}


_PLANES = re.compile(r"(\d+) x (\d+) bit planes, ")
_CASES = re.compile(r", cases of (\d+) pixel")


@dataclass(frozen=True)
class StepWork:
    """What a step has to do: multiply-accumulates; bytes of feature maps that it reads and writes, and of them written; of its constants, and of all steps'."""

    macs: int
    moved_bytes: int
    written_bytes: int
    constant_bytes: int
    all_constants: int


@dataclass(frozen=True)
class Limit:
    """The least time in seconds that a step can take on this machine, and what sets it."""

    seconds: float
    reason: str


class Meter:
    """Runs the measurements of ``measure.c``, each once.

    Parameters
    ----------
    triple : str
        Of the machine at hand.

    Raises
    ------
    ToolchainError
        There is no C compiler, or it fails.
    """

    def __init__(self, triple: str):
        with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
            library = Path(folder) / "measure.so"
            command = [*find_compiler(triple), "-std=c99", "-O2", "-fPIC", "-shared", "-o", str(library), str(Path(__file__).with_name("measure.c"))]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                raise ToolchainError(f"The C compiler failed to build the profiler's clock (exit {done.returncode}): {done.stderr.strip()[-500:]}")
            self._library = ctypes.CDLL(str(library))
        self._library.mix_ns.restype = self._library.stream_ns.restype = ctypes.c_double
        self._library.mix_ns.argtypes, self._library.stream_ns.argtypes = [ctypes.c_int32], [ctypes.c_uint64, ctypes.c_int32]
        self._library.record.restype = self._library.record_shared.restype = ctypes.c_int32
        self._library.record.argtypes, self._library.record_shared.argtypes = [ctypes.c_void_p] * 5, [ctypes.c_void_p] * 6
        self._mix_ns = functools.cache(self._library.mix_ns)
        self._stream_ns = functools.cache(self._library.stream_ns)

    def record(self, function: Callable, inputs: ctypes.Array, outputs: ctypes.Array, workspace: int, ns: ctypes.Array, threads: int | None = None) -> int:
        """Run a library's ``profile`` function once, or that of the `threads` at an address, and write the nanoseconds of each step into `ns`.

        Returns the function's code.
        """
        if threads is None:
            return self._library.record(ctypes.cast(function, ctypes.c_void_p), inputs, outputs, workspace, ns)
        return self._library.record_shared(ctypes.cast(function, ctypes.c_void_p), threads, inputs, outputs, workspace, ns)

    def rate(self, variant: str, formulation: str) -> float | None:
        """Return the multiply-accumulates a nanosecond that a formulation cannot pass here, None where that is not known."""
        if formulation not in _MIXES.get(variant, {}):
            return None
        number, macs = _MIXES[variant][formulation]
        spent = self._mix_ns(number)
        return macs / spent if spent else None

    def limit(self, variant: str, note: str, work: StepWork) -> Limit | None:
        """Return what bounds a step: its arithmetic or its memory, whichever takes longer; None where neither is known.

        Parameters
        ----------
        variant : str
        note : str
            Of its kernel; it names the formulation.
        work : StepWork
        """
        limits = [self._arithmetic(variant, note, work.macs), self._memory(note, work)]
        return max(filter(None, limits), key=lambda limit: limit.seconds, default=None)

    def _arithmetic(self, variant: str, note: str, macs: int) -> Limit | None:
        if not macs:
            return None
        pairs = _PLANES.match(note)
        formulation = note[pairs.end() if pairs else 0 :].partition(",")[0].split()[0]
        rate = self.rate(variant, formulation)
        if not rate:
            return None
        macs *= int(pairs[1]) * int(pairs[2]) if pairs else 1
        return Limit(macs / rate * 1e-9, f"{formulation} {rate:.0f} GMAC/s")

    def _memory(self, note: str, work: StepWork) -> Limit | None:
        """Feature maps come from as near as they fit, and are stored while others are read; constants from where all of the network's fit.

        Of a table of which each pixel reads a case of eight, random pixels read so much; half of the rows of inputs that are 1.
        """
        pixels = _CASES.search(note)
        constants = work.constant_bytes * (1 - (7 / 8) ** int(pixels[1])) if pixels else work.constant_bytes
        constants /= 2 if note.startswith("sliced by ones") else 1
        read = work.moved_bytes - work.written_bytes
        copied, rest = 2 * min(read, work.written_bytes), abs(read - work.written_bytes)
        seconds = 1e-9 * (
            copied / self._stream_rate(copied // 2, False)
            + rest / self._stream_rate(rest, True)
            + constants / self._stream_rate(work.all_constants, True)
        )
        moved = work.moved_bytes + constants
        return Limit(seconds, f"memory {moved / seconds * 1e-9:.0f} GB/s") if moved else None

    def _stream_rate(self, nbytes: int, only_read: bool) -> float:
        """Return bytes a nanosecond, those of the next smaller of a few sizes."""
        size = 1 << min(26, max(12, nbytes.bit_length() - 1))
        return size * (1 if only_read else 2) / self._stream_ns(size, only_read)

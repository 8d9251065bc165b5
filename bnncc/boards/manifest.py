"""What a board is: one JSON file in ``manifests/``, read into a frozen record that validates itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bnncc.errors import InternalError, TargetError
from bnncc.nearest import nearest
from bnncc.targets import find_target
from bnncc.toolchain import bare_metal_prefix

__all__ = ["Access", "Board", "Region", "Uart", "board_names", "find_board"]

_BOOT_WORDS = 64

_FOLDER = Path(__file__).parent / "manifests"


@dataclass(frozen=True)
class Region:
    """A stretch of memory: address and size in bytes."""

    origin: int
    length: int


@dataclass(frozen=True)
class Access:
    """A step of setting a board up: what is done to a register of 32 bits, and why.

    Parameters
    ----------
    what : str
        ``write`` a value, ``set`` or ``clear`` bits, or ``wait`` until the bits of a mask have a value.
    address : int
    bits : int
        The value, the bits, or the mask.
    value : int
        What is waited for.
    why : str
    """

    what: str
    address: int
    bits: int
    value: int
    why: str

    @classmethod
    def of(cls, what: str, address: str, bits: str, *rest: str) -> Access:
        """Read a step as a manifest spells it: the value stands where something is waited for only."""
        if what not in ("write", "set", "clear", "wait") or len(rest) != (2 if what == "wait" else 1):
            raise InternalError(f"a board is set up by write, set, clear and wait; found {[what, address, bits, *rest]}")
        return cls(what, int(address, 0), int(bits, 0), int(rest[0], 0) if what == "wait" else 0, rest[-1])


@dataclass(frozen=True)
class Uart:
    """A serial port that is set up: a byte is written to `data`, and sent when the bits of the mask at `sent` have a value; then `clear` is written 0."""

    data: int
    sent: tuple[int, int, int]
    clear: int = 0


@dataclass(frozen=True)
class Board:
    """A board that firmware is written for.

    Parameters
    ----------
    name, description : str
    target : str
        Of `bnncc.targets`; says how C is compiled.
    flash, ram : Region
    stack_bytes : int
        Reserved for the stack, out of the RAM.
    clock_hz : int
    emulator : tuple of str
        Command of QEMU without the firmware; empty where the firmware is built, but not run here.
    setup : tuple of Access
        Clocks, pins and port, at start-up.
    uart : Uart, optional
        Where the firmware speaks; without one files are reached by semihosting.
    boot : tuple of int
        Words of a boot stage in the first 256 bytes of the flash, with its checksum; empty where the vectors stand there.
    programmer : tuple of str
        Command that writes a firmware to the flash and starts it; ``{elf}`` and ``{hex}`` stand for the files.
    """

    name: str
    description: str
    target: str
    flash: Region
    ram: Region
    stack_bytes: int
    clock_hz: int
    emulator: tuple[str, ...] = ()
    setup: tuple[Access, ...] = ()
    uart: Uart | None = None
    boot: tuple[int, ...] = ()
    programmer: tuple[str, ...] = ()

    @property
    def tool_prefix(self) -> str:
        """What the names of the cross compiler's programs start with."""
        return bare_metal_prefix(find_target(self.target).variants[0].tvm_target["mtriple"])

    def __post_init__(self):
        if not find_target(self.target).variants[0].is_source:
            raise InternalError(f"board {self.name}: {self.target} is no target of C code")
        if self.stack_bytes % 16 or not 0 < self.stack_bytes < self.ram.length:
            raise InternalError(f"board {self.name}: {self.stack_bytes} bytes of stack")


def board_names() -> list[str]:
    """Return all names that `find_board` takes."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def find_board(name: str) -> Board:
    """Return the board called `name`.

    Raises
    ------
    TargetError
        There is none of that name; the message lists those there are and names the nearest.
    """
    if name not in board_names():
        raise TargetError(f"There is no board {name!r}.{nearest(name, board_names())} Boards: {', '.join(board_names())}.")
    given = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    regions = {part: Region(*(int(str(v), 0) for v in given.pop(part))) for part in ("flash", "ram")}
    more = {
        "emulator": tuple(given.pop("emulator", ())),
        "programmer": tuple(given.pop("programmer", ())),
        "setup": tuple(Access.of(*step) for step in given.pop("setup", ())),
        "boot": _with_checksum([int(word, 0) for word in given.pop("boot", ())]),
    }
    if (port := given.pop("uart", None)) is not None:
        more["uart"] = Uart(int(port["data"], 0), tuple(int(v, 0) for v in port["sent"]), int(port.get("clear", "0"), 0))
    return Board(name=name, **more, **regions, **given)


def _with_checksum(words: list[int]) -> tuple[int, ...]:
    """Return a boot stage of 256 bytes: the words, zeros, and what the RP2040's ROM compares, their CRC-32 without reflection and final inversion."""
    if not words:
        return ()
    if len(words) >= _BOOT_WORDS:
        raise InternalError(f"a boot stage of {len(words)} words; {_BOOT_WORDS - 1} and a checksum fit")
    words = [*words, *[0] * (_BOOT_WORDS - 1 - len(words))]
    crc = 0xFFFFFFFF
    for byte in b"".join(word.to_bytes(4, "little") for word in words):
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return (*words, crc)

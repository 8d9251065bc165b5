"""Boards that are not in QEMU: their set-up is data of one manifest; what is built is looked at, not run."""

from __future__ import annotations

import re
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from bnncc.boards import board_names, find_board, write_project
from bnncc.boards.manifest import Access
from bnncc.errors import InternalError

from .test_projects import compiled, need  # noqa: F401  the fixture

SOURCE = Path(__file__).parent / "sources" / "boot_rp2040.S"
REAL = [name for name in board_names() if not find_board(name).emulator]


def test_the_five_boards_that_were_asked_for_have_manifests():
    assert {"stm32f746g-disco", "nucleo-f446re", "nrf52840-dk", "raspberry-pi-pico", "arduino-nano-33-ble"} <= set(REAL)
    assert all("built, not run here" in find_board(name).description for name in REAL)


def reflected(value: int, bits: int) -> int:
    return int(f"{value:0{bits}b}"[::-1], 2)


def test_the_boot_stage_ends_with_the_checksum_that_the_rom_computes():
    words = find_board("raspberry-pi-pico").boot
    content = struct.pack(f"<{len(words) - 1}I", *words[:-1])
    assert len(content) == 252
    # CRC-32/MPEG-2 is zlib's on bytes of reversed bits, without the final inversion, reversed again
    wanted = reflected(zlib.crc32(bytes(reflected(byte, 8) for byte in content)) ^ 0xFFFFFFFF, 32)
    assert words[-1] == wanted


def test_the_boot_stage_is_what_its_source_assembles_to(tmp_path):
    need("arm-none-eabi-gcc", "arm-none-eabi-objcopy")
    made, code = tmp_path / "boot.o", tmp_path / "boot.bin"
    subprocess.run(["arm-none-eabi-gcc", "-c", str(SOURCE), "-o", str(made)], check=True)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", "-j", ".text", str(made), str(code)], check=True)
    words = struct.pack("<64I", *find_board("raspberry-pi-pico").boot)
    assert words.startswith(code.read_bytes())


@pytest.mark.parametrize("board", REAL)
def test_clock_pins_and_port_are_set_up_before_main(compiled, tmp_path, board):  # noqa: F811
    chosen = find_board(board)
    write_project(chosen, compiled("tfc_1w1a", chosen.target), tmp_path / "proj")
    text = (tmp_path / "proj" / "startup.c").read_text()
    assert len(re.findall(r"^    (?:REGISTER|while \(\(REGISTER).* /\* .* \*/$", text, re.M)) == len(chosen.setup) > 0
    assert text.index("    set_up();") < text.index("board_exit(main());")
    main = (tmp_path / "proj" / "main.c").read_text()
    assert "board_open" not in main and "semihosting" not in text and "print_words" in main


def test_a_board_behind_a_boot_stage_has_its_vectors_after_it(compiled, tmp_path):  # noqa: F811
    need("make", "arm-none-eabi-gcc", "arm-none-eabi-nm")
    board = find_board("raspberry-pi-pico")
    write_project(board, compiled("tfc_1w1a", board.target), tmp_path / "proj")
    subprocess.run(["make", "-s"], cwd=tmp_path / "proj", check=True)
    listed = subprocess.run(["arm-none-eabi-nm", "firmware.elf"], cwd=tmp_path / "proj", capture_output=True, text=True, check=True).stdout
    places = {line.split()[2]: int(line.split()[0], 16) for line in listed.splitlines() if len(line.split()) == 3}
    assert (places["boot"], places["vectors"]) == (0x10000000, 0x10000100)


@pytest.mark.parametrize("step", [("poke", "0x0", "1", "why"), ("wait", "0x0", "1", "why"), ("write", "0x0", "1", "2", "why")])
def test_a_step_that_is_none_is_refused(step):
    with pytest.raises(InternalError, match="set up by write, set, clear and wait"):
        Access.of(*step)

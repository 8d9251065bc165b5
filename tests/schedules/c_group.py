"""Compiles one group to C99 as microcontrollers get it, runs it on this machine under the sanitizers, and gives the outputs."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from bnncc.codegen.c_text import template_environment
from bnncc.codegen.emit_c import C_STACK_BYTES
from bnncc.codegen.lower_tir import lower_kernel
from bnncc.codegen.print_c import PREAMBLE, print_function
from bnncc.schedules import Kernel, build_kernel
from bnncc.targets import Variant
from tests.schedules.group_runner import meaning, output_types

__all__ = ["OPTIONS", "check_c", "scalar"]

OPTIONS = (
    *("-std=c99", "-O1", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"),
    # checks of each address take half of the compiler's time and find what the address sanitizer finds in tests of whole networks, tests/boards
    *("-fsanitize=undefined", "-fno-sanitize=null,object-size,pointer-overflow", "-fno-sanitize-recover=all"),
)


def scalar(*instructions: str, registers: int = 13, optimize_for: str = "speed") -> Variant:
    """Return a variant of words of 32 bits whose output is C."""
    target = {"kind": "c", "mtriple": "arm-none-eabi"}
    return Variant("scalar", target, 32, registers, word_bits=32, instructions=frozenset(instructions), optimize_for=optimize_for)


def check_c(function: relax.Function, arrays, folder: Path, variant: Variant) -> Kernel:
    """Assert that a group compiled to C equals its NumPy meaning bit for bit, and return its kernel."""
    kernel = build_kernel(function, variant)
    lowered = lower_kernel(kernel.func, "kernel", tvm.target.Target({"kind": "c"}), C_STACK_BYTES)
    expected = meaning(function, arrays)
    reads = len(kernel.func.params) - len(expected)
    text = print_function(lowered, "kernel", reads)
    preamble = [name for name in PREAMBLE if f"{name}(" in text]
    source = template_environment().get_template("functions.c.j2").render(preamble=preamble)
    path = folder / f"kernel{len(list(folder.iterdir()))}.c"
    declaration = text[len("KERNEL ") : text.index("\n")]
    body = text[text.index("\n") :]
    path.write_text(f"#define KERNEL static\n#include <math.h>\n#include <stdint.h>\n\n{source}\n{declaration};\n{declaration}{body}\n")
    subprocess.run(["gcc", *OPTIONS, "-shared", "-fPIC", "-o", path.with_suffix(".so"), path], check=True)
    ready = [np.ascontiguousarray(kernel.arranged(i, lambda j: arrays[j]) if i in kernel.relayout else array) for i, array in enumerate(arrays)]
    guard = 64
    results = [np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize + 2 * guard, 0xA5, np.uint8) for shape, dtype in output_types(function)]
    scratch = [np.full(size, 0x5A, np.uint8) for size in lowered.scratch]
    pointers = [array.ctypes.data for array in ready] + [array.ctypes.data + guard for array in results] + [array.ctypes.data for array in scratch]
    ctypes.CDLL(str(path.with_suffix(".so"))).kernel(*map(ctypes.c_void_p, pointers))
    for made, wanted in zip(results, expected, strict=True):
        assert (made[:guard] == 0xA5).all() and (made[-guard:] == 0xA5).all(), "the kernel wrote outside its output"
        np.testing.assert_array_equal(made[guard:-guard].view(wanted.dtype).reshape(wanted.shape), wanted)
    return kernel

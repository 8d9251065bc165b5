"""Microcontrollers: one manifest a core. Kernels are scalar C99 over words of 32 bits; the compiler options are those of GCC."""

from __future__ import annotations

from bnncc.targets.manifest import Target, Variant

__all__ = ["TARGETS"]


# Before registers are given out, GCC's scheduler moves loads so far ahead that the full adders of sliced kernels spill (KERNELS: 4.8 instructions a word
# became 4.0).
_SCHEDULING = ("-fno-schedule-insns", "-fno-tree-reassoc", "-fno-tree-ter")

_HELIUM = ("cortex-m55",)
_ARMV6_M = ("cortex-m0", "cortex-m0plus")


def _core(name: str, triple: str, description: str, *options: str) -> Target:
    instructions = frozenset(() if not triple.startswith("arm") else {"two-operands"} if name in _ARMV6_M else {"scaled-index"})
    if name in _HELIUM:
        instructions |= {"mve"}
    tvm_target = {"kind": "c", "mtriple": triple}
    model = "" if not triple.startswith("arm") else "m0" if name in _ARMV6_M else "m4"
    variant = Variant(
        name.replace("-", "_"),
        tvm_target,
        32,
        8 if name in _ARMV6_M else 13,
        word_bits=32,
        c_options=(*options, *_SCHEDULING),
        instructions=instructions,
        cycle_model=model,
    )
    return Target(name, description, (variant,))


def _arm(name: str, description: str, *options: str) -> Target:
    return _core(name, "arm-none-eabi", description, "-mthumb", *options)


TARGETS = (
    _arm("cortex-m0", "ARMv6-M, no floating point", "-mcpu=cortex-m0"),
    _arm("cortex-m0plus", "ARMv6-M, no floating point (RP2040)", "-mcpu=cortex-m0plus"),
    _arm("cortex-m3", "ARMv7-M, no floating point", "-mcpu=cortex-m3"),
    _arm("cortex-m4", "ARMv7E-M with single-precision floating point", "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    _arm("cortex-m7", "ARMv7E-M with single-precision floating point", "-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
    _arm("cortex-m33", "ARMv8-M mainline with single-precision floating point", "-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
    _arm("cortex-m55", "ARMv8.1-M with Helium, vectors of 128 bits", "-mcpu=cortex-m55", "-mfloat-abi=hard"),
    _arm("cortex-m55-nomve", "ARMv8.1-M with floating point, without Helium", "-mcpu=cortex-m55+nomve", "-mfloat-abi=hard"),
    _core("riscv32imc", "riscv32-unknown-elf", "RISC-V 32 with multiplication and compressed code, no floating point", "-march=rv32imc", "-mabi=ilp32"),
)

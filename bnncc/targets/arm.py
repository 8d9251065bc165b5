"""64-bit Arm with NEON (Advanced SIMD), which every AArch64 processor has, under Linux."""

from __future__ import annotations

from dataclasses import replace

from bnncc.targets.manifest import Core, Target, Variant

__all__ = ["TARGETS"]

TRIPLE = "aarch64-linux-gnu"


def _neon(mcpu: str, core: Core, *cpu_features: str, tuning: tuple[str, ...] = ()) -> Variant:
    name = mcpu.replace("-", "_")
    tvm_target = {"kind": "llvm", "mtriple": TRIPLE, "mcpu": mcpu, "mattr": ["+neon", *tuning]}
    instructions = frozenset({"cnt", "bsl", "addp", "fmla"})
    return Variant(name, tvm_target, 128, 32, 64, cpu_features, instructions, epilogue_registers=4, indexed_offsets=False, core=core)


# from Arm's software optimization guides, the M1 from measurements published by Dougall Johnson
# In-order processors issue two, but of this code llvm-mca sees one a cycle: of the A55 3.7 cycles for 128 bits of the tree, 2.8 of sliced in runs, 3.5 else;
# of the A53, whose model has 6 cycles for anything on vectors, 3.5, 4.4 and 3.7.
_A53 = Core(1, 1, 1, load_wait=0.65)
_A55 = Core(1, 1, 1, load_wait=0.65, in_runs=True)
_A72 = Core(3, 2, 1)
_A76 = Core(4, 2, 2)
_M1 = Core(8, 4, 3)


# What a processor has beyond Armv8.0 and LLVM may use in these kernels: a library for it says so on a lesser one instead of crashing.
_V82 = ("atomics", "fphp", "asimdhp", "asimdrdm", "asimddp")

# LLVM's model of a "generic" processor is that of the Cortex-A53, with whose order of instructions wide register tiles spill
_GENERIC = replace(_neon("cortex-a72", _A72, tuning=("-crc", "-aes", "-sha2", "-perfmon")), name="generic")

# every Apple silicon has what the code needs, so nothing is asked of the processor
_MACOS = _neon("apple-m1", _M1)
_MACOS = replace(_MACOS, name="macos", tvm_target={**_MACOS.tvm_target, "mtriple": "aarch64-apple-macos"})

TARGETS = (
    Target("aarch64", "any 64-bit Arm under Linux", (_GENERIC,)),
    Target("cortex-a53", "in-order Armv8.0 (Raspberry Pi 3)", (_neon("cortex-a53", _A53, "crc32"),)),
    Target("cortex-a55", "in-order Armv8.2", (_neon("cortex-a55", _A55, *_V82, tuning=("+slow-paired-128",)),)),
    Target("cortex-a72", "Armv8.0 (Raspberry Pi 4)", (_neon("cortex-a72", _A72, "crc32"),)),
    Target("cortex-a76", "Armv8.2 (Raspberry Pi 5)", (_neon("cortex-a76", _A76, *_V82),)),
    Target("neoverse-n1", "Armv8.2 server (Graviton 2, Ampere Altra)", (_neon("neoverse-n1", _A76, *_V82),)),
    Target("aarch64-macos", "Apple silicon under macOS: built, never run here", (_MACOS,)),
    Target("apple-m1", "Apple M1 under Linux", (_neon("apple-m1", _M1, *_V82, "sha3"),)),
)

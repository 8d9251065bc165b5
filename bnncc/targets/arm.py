"""64-bit Arm with NEON (Advanced SIMD), which every AArch64 processor has, under Linux."""

from __future__ import annotations

from bnncc.targets.manifest import Target, Variant

__all__ = ["TARGETS"]

TRIPLE = "aarch64-linux-gnu"


def _neon(mcpu: str, *cpu_features: str) -> Variant:
    name = mcpu.replace("-", "_")
    tvm_target = {"kind": "llvm", "mtriple": TRIPLE, "mcpu": mcpu, "mattr": ["+neon"]}
    return Variant(name, tvm_target, 128, 32, cpu_features=cpu_features, instructions=frozenset({"cnt", "bsl"}), epilogue_registers=4)


# What a processor has beyond Armv8.0 and LLVM may use in these kernels: a library for it says so on a lesser one instead of crashing.
_V82 = ("atomics", "fphp", "asimdhp", "asimdrdm", "asimddp")

TARGETS = (
    Target("aarch64", "any 64-bit Arm under Linux", (_neon("generic"),)),
    Target("cortex-a53", "in-order Armv8.0 (Raspberry Pi 3)", (_neon("cortex-a53", "crc32"),)),
    Target("cortex-a55", "in-order Armv8.2", (_neon("cortex-a55", *_V82),)),
    Target("cortex-a72", "Armv8.0 (Raspberry Pi 4)", (_neon("cortex-a72", "crc32"),)),
    Target("cortex-a76", "Armv8.2 (Raspberry Pi 5)", (_neon("cortex-a76", *_V82),)),
    Target("neoverse-n1", "Armv8.2 server (Graviton 2, Ampere Altra)", (_neon("neoverse-n1", *_V82),)),
    Target("apple-m1", "Apple M1 under Linux", (_neon("apple-m1", *_V82, "sha3"),)),
)

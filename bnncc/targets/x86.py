"""x86-64 at the micro-architecture levels of the System V ABI, and the machine at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bnncc.targets.manifest import Target, Variant

TRIPLE = "x86_64-linux-gnu"


def _llvm(mcpu: str, *mattr: str) -> dict:
    target = {"kind": "llvm", "mtriple": TRIPLE, "mcpu": mcpu}
    if mattr:
        target["mattr"] = list(mattr)
    return target


_SHUFFLE = frozenset({"pshufb", "pmaddwd"})

V2 = Variant("v2", _llvm("x86-64-v2"), 128, 16, cpu_features=("sse4_2", "popcnt"), instructions=_SHUFFLE)
V3 = Variant(
    "v3",
    _llvm("x86-64-v3"),
    256,
    16,
    cpu_features=("avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm", "popcnt"),
    instructions=_SHUFFLE | {"pdep", "vpermps"},
)
# The System V level v4 has no VPOPCNTDQ, but every AVX-512 machine worth a binary network since Ice Lake and Zen 4 has; without it v3 is the better code.
V4 = Variant(
    "v4",
    _llvm("x86-64-v4", "+avx512vpopcntdq", "+avx512bitalg", "-prefer-256-bit"),
    512,
    32,
    cpu_features=("fma", "bmi1", "bmi2", "f16c", "movbe", "abm", "popcnt", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vpopcntdq", "avx512bitalg"),
    instructions=_SHUFFLE | {"pdep", "vpermps", "vpopcnt", "vpternlog"},
)


def cpu_flags() -> set[str]:
    """Return the processor's features as the kernel lists them; empty where there is no /proc/cpuinfo."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
            line = next((row for row in f if row.startswith("flags")), "flags :")
    except OSError:
        return set()
    return set(line.split(":", 1)[1].split())


def runs_here(variant: Variant) -> bool:
    """Tell whether this machine has all that `variant` needs."""
    return has_features(cpu_flags(), variant)


def has_features(flags: Iterable[str], variant: Variant) -> bool:
    """Tell whether a processor of these features, as Linux lists them, has all that `variant` needs."""
    # the kernel spells vpopcntdq with an underscore
    return set(variant.cpu_features) <= {flag.replace("_vpopcntdq", "vpopcntdq").replace("_bitalg", "bitalg") for flag in flags}


def native_variant() -> Variant:
    """Return the best variant that this machine runs."""
    return next((v for v in (V4, V3, V2) if runs_here(v)), V2)



def _windows(variant: Variant) -> Variant:
    return replace(variant, tvm_target={**variant.tvm_target, "mtriple": "x86_64-w64-windows-gnu"})


TARGETS = (
    Target("x86-64", "any x86-64 since 2009: v2, v3 and v4 code in one library, chosen when it is loaded", (V2, V3, V4)),
    Target("x86-64-windows", "x86-64 under Windows, v2 and v3 code: built, never run here", (_windows(V2), _windows(V3))),
    Target("x86-64-v2", "SSE4.2 and POPCNT (Nehalem, 2008)", (V2,)),
    Target("x86-64-v3", "AVX2 and FMA (Haswell 2013, Zen 2017)", (V3,)),
    Target("x86-64-v4", "AVX-512 with VPOPCNTDQ (Ice Lake 2019, Zen 4 2022)", (V4,)),
)

"""Names and types of C, made from those of ONNX and NumPy."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bnncc.errors import InternalError

__all__ = ["C_TYPES", "c_identifier", "c_identifiers", "c_type"]

# bool is a byte that holds 0 or 1 on both sides, and a C header that says uint8_t also serves C++ and old compilers
C_TYPES = {
    "bool": "uint8_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
    "float32": "float",
    "float64": "double",
}

_VECTORS = {"uint32x4": "uint32x4_t"}
"""Inside of kernels only."""

# Of C11 and C++20, lower case only; what has an underscore in front cannot come out of `c_identifier`.
_KEYWORDS = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class co_await co_return
    co_yield compl concept const const_cast consteval constexpr constinit continue
    decltype default delete do double dynamic_cast else enum explicit
    export extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private
    protected public register reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct switch
    template this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
    linux unix i386""".split()
)


def c_type(dtype: str) -> str:
    """Return the C type of a NumPy element type.

    Raises
    ------
    InternalError
        No C type stands for it.
    """
    if dtype in _VECTORS:
        return _VECTORS[dtype]
    if dtype not in C_TYPES:
        raise InternalError(f"element type {dtype} has no C type; tensors at the border and between kernels may be {', '.join(C_TYPES)}")
    return C_TYPES[dtype]


def c_identifier(name: str) -> str:
    """Return `name` as an identifier of C and C++; the same name always gives the same identifier."""
    text = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "t"
    if text[0].isdigit():
        text = f"t{text}"
    return f"{text}_" if text in _KEYWORDS else text


def c_identifiers(names: Iterable[str]) -> list[str]:
    """Return one identifier for each name, all different; a number is put behind those that would clash."""
    taken: set[str] = set()
    result = []
    for name in names:
        base = unique = c_identifier(name)
        count = 1
        while unique in taken:
            count += 1
            unique = f"{base}_{count}"
        taken.add(unique)
        result.append(unique)
    return result

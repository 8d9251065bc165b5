"""Names of C."""

from __future__ import annotations

import keyword
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnncc.codegen.names import C_TYPES, c_identifier, c_identifiers, c_type
from bnncc.errors import InternalError


@given(st.text())
def test_any_name_becomes_an_identifier(name):
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", c_identifier(name))


@given(st.lists(st.text()))
def test_identifiers_of_a_list_are_all_different(names):
    assert len(set(c_identifiers(names))) == len(names)


@pytest.mark.parametrize(
    ("name", "expected"), [("x", "x"), ("/conv.1/Relu:0", "conv_1_Relu_0"), ("3d", "t3d"), ("int", "int_"), ("", "t"), ("日本", "t")]
)
def test_readable_names_stay_readable(name, expected):
    assert c_identifier(name) == expected


def test_a_clash_is_numbered():
    assert c_identifiers(["a.b", "a_b", "a b", "a_b_2"]) == ["a_b", "a_b_2", "a_b_3", "a_b_2_2"]


def test_no_keyword_survives():
    words = sorted({*keyword.kwlist, "class", "double", "register", "typename", "unix", "linux", "bool", "true", "asm"})
    source = "#include <stdint.h>\n" + "".join(f"int {c_identifier(word)};\n" for word in words)
    for language in ("c", "c++"):
        subprocess.run(["gcc", f"-x{language}", "-fsyntax-only", "-"], input=source, text=True, check=True)


def test_a_type_without_a_c_type_is_refused():
    assert c_type("uint64") == C_TYPES["uint64"] == "uint64_t"
    with pytest.raises(InternalError, match="bfloat16 has no C type"):
        c_type("bfloat16")

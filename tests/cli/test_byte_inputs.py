"""``--input-type``, ``--input-scale`` and ``--input-zero``."""

from __future__ import annotations

import pytest
import typer

from bnncc.cli.byte_inputs import parse_byte_inputs
from bnncc.spec import ByteInput


def test_without_a_type_no_input_takes_bytes():
    assert parse_byte_inputs([], [], []) is None
    assert parse_byte_inputs(["float32"], [], []) is None


def test_scale_and_zero_belong_to_the_input_of_the_same_name():
    found = parse_byte_inputs(["a=uint8", "b=uint8"], ["a=1/255"], ["b=127.5"])
    assert found == {"a": ByteInput(1 / 255, 0.0), "b": ByteInput(1.0, 127.5)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((["int4"], [], []), "'int4' is no type of input"),
        ((["uint8", "uint8"], [], []), "given twice"),
        (([], ["0.5"], []), "no --input-type asks for bytes"),
        ((["a=uint8"], [], ["b=1"]), "what the bytes of 'b' stand for"),
        ((["uint8"], ["1/0"], []), "'1/0' is no number"),
        ((["uint8"], [], ["middle"]), "'middle' is no number"),
    ],
)
def test_what_makes_no_sense_is_told(given, told):
    with pytest.raises(typer.BadParameter, match=told):
        parse_byte_inputs(*given)

"""What the files of C that we write have in common: templates, comments, members and macros of the tensors."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import jinja2

from bnncc.codegen.names import c_identifiers, c_type
from bnncc.errors import InternalError
from bnncc.spec import TensorSpec

__all__ = ["c_comment", "c_tensors", "template_environment"]


def _fail(message: str):
    raise InternalError(message)


@functools.cache
def template_environment(package: Path = Path(__file__).parent) -> jinja2.Environment:
    """Return what renders the templates of a package; a template calls ``fail`` for what cannot be.

    Each package has one, which keeps its templates parsed: that takes longer than all the rest of rendering.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(package / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.globals["fail"] = _fail
    return environment


def c_comment(text: str) -> str:
    """Make text from a model safe inside a C comment."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


def c_tensors(specs: Sequence[TensorSpec]) -> list[dict]:
    """Return what a header says of tensors: member, macro, type, size in elements and comment; members and macros are unique."""
    members = c_identifiers(spec.name for spec in specs)
    macros = c_identifiers(member.upper() for member in members)  # a and A are two members, but one macro
    return [
        {
            "member": member,
            "macro": macro,
            "type": c_type(spec.dtype),
            "size": math.prod(spec.shape),
            "comment": c_comment(f"{spec.name}: {spec.dtype}[{', '.join(map(str, spec.shape))}], {spec.nbytes} bytes"),
        }
        for spec, member, macro in zip(specs, members, macros, strict=True)
    ]

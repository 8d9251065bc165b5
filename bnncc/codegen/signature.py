"""Inputs and outputs of a model: as announced, as found, and as the metadata tells them."""

from __future__ import annotations

from collections.abc import Sequence

from bnncc.errors import InternalError
from bnncc.spec import TensorSpec

__all__ = ["checked_specs", "described"]


def checked_specs(given: Sequence, found: Sequence[tuple[tuple[int, ...], str]], what: str) -> list[TensorSpec]:
    """Return the names of the caller with the types of the function.

    Parameters
    ----------
    given : sequence of TensorSpec
        Or anything with name, shape and dtype.
    found : sequence of (shape, dtype)
        Of the lowered function.
    what : str
        ``input`` or ``output``, for the message.

    Raises
    ------
    InternalError
        They do not agree.
    """
    specs = [TensorSpec(str(spec.name), tuple(int(dim) for dim in spec.shape), str(spec.dtype)) for spec in given]
    if [(spec.shape, spec.dtype) for spec in specs] != list(found):
        raise InternalError(f"the {what}s of the lowered function are {list(found)}, but {[str(spec) for spec in specs]} were announced")
    return specs


def described(specs: Sequence[TensorSpec]) -> list[dict]:
    """Return name, shape and dtype as what JSON can hold."""
    return [{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in specs]

"""What weights may hold: finite numbers, in shapes of a sane size."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from bnncc.errors import ModelFormatError, ModelShapeError, ModelValueError
from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, all_tensors

__all__ = ["MAX_ELEMENTS", "check_size", "check_values"]

MAX_ELEMENTS = 2**31
# An infinite bound or fill value is a way to say "none": these operators take one as a scalar.
_TAKES_INFINITY = {"Clip", "Min", "Max", "Pad", "Where", "Constant"}


def check_size(what: str, shape: tuple[int, ...] | list[int]) -> None:
    """Check that a tensor has at least one and at most MAX_ELEMENTS elements.

    Raises
    ------
    ModelShapeError
        It has not; the message starts with ``what``.
    """
    if any(d < 0 for d in shape) or (0 in shape):
        raise ModelShapeError(
            f"{what} has shape {list(shape)}, with a zero or negative dimension: it holds no data. Every dimension must be at "
            "least 1: give a proper shape with --shape, or export the model again."
        )
    if math.prod(shape) > MAX_ELEMENTS:
        raise ModelShapeError(
            f"{what} has shape {list(shape)}, which is {math.prod(shape)} elements; at most {MAX_ELEMENTS} a tensor are supported. "
            "Give a smaller shape with --shape, or check that the file is not damaged."
        )


def check_values(model: onnx.ModelProto) -> None:
    """Check sizes and values of all weights and constants.

    Raises
    ------
    ModelShapeError
        A weight is empty or absurdly large.
    ModelFormatError
        A weight's data do not fit its shape.
    ModelValueError
        A weight holds NaN or an infinity.
    """
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type if node.domain in STANDARD_DOMAINS else node.domain + node.op_type)
    for name, tensor in all_tensors(model.graph):
        if len(tensor.dims) != 1 or tensor.dims[0] != 0:  # an empty vector is a shape of rank 0, or an option not given
            check_size(f"The weight '{name}'", tensor.dims)
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # whatever NumPy or the decoder says of a damaged tensor
            raise ModelFormatError(
                f"The weight '{name}' of shape {list(tensor.dims)} is damaged: {error}. Export or copy the model again."
            ) from error
        if array.dtype.kind == "f":
            check_finite(name, array, infinity_is_a_bound=array.size == 1 and readers.get(name, {"Constant"}) <= _TAKES_INFINITY)


def check_finite(name: str, array: np.ndarray, infinity_is_a_bound: bool = False, origin: str = "") -> None:
    """Refuse NaN and infinities in the weight ``name``; ``origin`` says how it was computed, if it was.

    Raises
    ------
    ModelValueError
        There is one.
    """
    bad = np.isnan(array) if infinity_is_a_bound else ~np.isfinite(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ModelValueError(
            f"The weight '{name}'{origin} holds {'NaN' if np.isnan(array).any() else 'an infinity'}: {int(bad.sum())} of {array.size} "
            f"values are not finite, the first at index {index}. Weights must be finite: check the training or the export."
        )

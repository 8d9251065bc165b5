"""Window arithmetic shared by convolutions and pools, and where a window leaves the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["border_classes", "image_size", "output_size", "pad_widths", "windows"]


def output_size(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Return how many windows fit along one axis (floor)."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def image_size(size: Sequence[int], kernel: Sequence[int], attrs, padding: Sequence[int] = (0, 0, 0, 0)) -> tuple[int, int]:
    """Return height and width of what a kernel makes of an image; `attrs` hold strides and dilation, `padding` is top, left, bottom, right."""
    return tuple(output_size(size[i], kernel[i], attrs.strides[i], attrs.dilation[i], padding[i], padding[i + 2]) for i in (0, 1))


def pad_widths(padding: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return what `numpy.pad` takes for an NHWC array; `padding` is top, left, bottom, right."""
    top, left, bottom, right = (int(p) for p in padding)
    return ((0, 0), (top, bottom), (left, right), (0, 0))


def windows(x: np.ndarray, kernel, strides, dilation) -> np.ndarray:
    """Return every window of an already padded NHWC array as a view, shape (N, OH, OW, C, KH, KW)."""
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]


def border_classes(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Group the output positions of one axis by which taps fall outside the image.

    Returns
    -------
    index : ndarray, int32, shape (output size,)
        Class of each position.
    outside : ndarray, bool, shape (classes, kernel)
        Which taps are outside, class by class.
    """
    n = output_size(size, kernel, stride, dilation, before, after)
    tap = np.arange(n)[:, None] * stride - before + np.arange(kernel)[None, :] * dilation
    outside, index = np.unique((tap < 0) | (tap >= size), axis=0, return_inverse=True)
    return index.reshape(-1).astype(np.int32), outside

"""Which pixels of an image (N, H, W, C) without padding the taps of a convolution or pool read."""

from __future__ import annotations

from collections.abc import Callable

from bnncc.schedules.group import Tensor

__all__ = ["conv_reads", "strides_of", "tap_of"]


def strides_of(node: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return strides and dilation of an operator with windows, each of rows and columns."""
    (sy, sx), (dy, dx) = node.attrs.strides, node.attrs.dilation
    return (int(sy), int(sx)), (int(dy), int(dx))


def tap_of(node: Tensor) -> Callable:
    """Return ``at(place, kh, kw, channel)``: the index that a tap reads for the output at `place`, (image, row, column)."""
    (sy, sx), (dy, dx) = strides_of(node)

    def at(place, kh, kw, channel):
        n, y, pixel = place
        return (n, y * sy + kh * dy, pixel * sx + kw * dx, channel)

    return at


def conv_reads(node: Tensor, kernel: tuple[int, int], channels: int) -> tuple[tuple[int, int], int, Callable]:
    """Return how a convolution reads its input.

    The taps of a row are one run of numbers in memory where there is one group and no dilation, and count as one tap then.

    Parameters
    ----------
    node : Tensor
        The convolution, which has `groups`.
    kernel : tuple of int
        Height and width.
    channels : int
        Inputs of a group.

    Returns
    -------
    taps : tuple of int
        Rows and columns of taps.
    depth : int
        Inputs of a tap.
    at : callable
        ``at(place, group, kh, kw, k)``: the index of input `k` of a tap.
    """
    tap, (height, width) = tap_of(node), kernel
    joined = int(node.attrs.groups) == 1 and int(node.attrs.dilation[1]) == 1
    taps, depth = ((height, 1), width * channels) if joined else ((height, width), channels)
    return taps, depth, lambda place, g, kh, kw, k: tap(place, kh, kw, g * channels + k)

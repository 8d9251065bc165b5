"""The geometry of sliding windows: kernels, strides and padding of convolutions and pools."""

from __future__ import annotations

from dataclasses import dataclass

from bnncc.frontend.conversion import Conversion

__all__ = ["Window", "window_of"]


@dataclass(frozen=True)
class Window:
    """Two-dimensional geometry; ``pads`` is (top, left, bottom, right), all explicit."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    def extra(self, size: tuple[int, int], ceil_mode: bool) -> tuple[int, int]:
        """Return the rows and columns to add at the end so that rounding down gives what ``ceil_mode`` asks for.

        A last window that would start beyond the input and its padding at the front does not count, as ONNX has it.
        """
        if not ceil_mode:
            return 0, 0
        added = []
        for i in range(2):
            before, after, reach = self.pads[i], self.pads[i + 2], (self.kernel[i] - 1) * self.dilations[i] + 1
            room = size[i] + before + after - reach
            count = -(-room // self.strides[i]) + 1
            if (count - 1) * self.strides[i] >= size[i] + before:
                count -= 1
            added.append(max((count - 1) * self.strides[i] - room, 0))
        return added[0], added[1]


def window_of(c: Conversion, kernel: tuple[int, ...], size: tuple[int, ...]) -> Window:
    """Read a node's geometry; a one-dimensional one becomes a row.

    Parameters
    ----------
    c
        The node.
    kernel
        Kernel size by spatial axis.
    size
        Spatial size of the input.

    Raises
    ------
    UnsupportedOperator
        It has other than 1 or 2 spatial axes, or attributes that do not fit.
    """
    rank = len(size)
    if rank not in (1, 2) or len(kernel) != rank:
        raise c.unsupported(f"it has {rank} spatial axes and a kernel of {len(kernel)}; 1 and 2 are supported. Volumes are not.")
    strides = list(c.attributes.get("strides") or [1] * rank)
    dilations = list(c.attributes.get("dilations") or [1] * rank)
    auto = c.attributes.get("auto_pad", "NOTSET") or "NOTSET"
    pads = list(c.attributes.get("pads") or [0] * (2 * rank)) if auto == "NOTSET" else [0] * (2 * rank)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(rank):
            steps = -(-size[i] // strides[i])
            total = max((steps - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size[i], 0)
            less, more = total // 2, total - total // 2
            pads[i], pads[i + rank] = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto not in ("NOTSET", "VALID"):
        raise c.unsupported(f"its auto_pad is {auto!r}; NOTSET, VALID, SAME_UPPER and SAME_LOWER are supported.")
    if rank == 1:
        return Window((1, kernel[0]), (1, strides[0]), (1, dilations[0]), (0, pads[0], 0, pads[1]))
    return Window((kernel[0], kernel[1]), (strides[0], strides[1]), (dilations[0], dilations[1]), (pads[0], pads[1], pads[2], pads[3]))

"""What the passes know beside the module: options, where every value stands in the ONNX model, and the rows of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from bnncc.errors import InternalError
from bnncc.ops.pack import PackAttrs
from bnncc.passes.plane_costs import VECTORS, PlaneCosts, SumCosts
from bnncc.spec import NodeInfo

__all__ = ["Options", "TensorView", "NodeInfo", "LayerRow", "PassContext", "SIGN_ZERO"]

SIGN_ZERO = ("exact", "plus", "minus")


@dataclass(frozen=True)
class Options:
    """What the user chose.

    Parameters
    ----------
    sign_zero : str
        What a plain ONNX Sign of exactly 0 becomes: ``exact`` (0), ``plus`` (+1) or ``minus`` (-1).
    word_bits : int
        Bits a word of the target.
    stage_images : bool
        Whether contractions of the target pad their input themselves, some rows at a time.
    pool_words : bool
        Whether kernels of the target join the words of a maximum's windows as they make them.
    has_float_unit : bool
        Whether the target computes float32 without a library.
    has_doubles : bool
        Whether vectors of the target hold float64.
    widens_codes : bool
        Whether layers on small integers read them as int16; else as the bytes they are.
    sums_codes : bool
        Whether sums of codes by signs may be written into the code of a kernel.
    planes : PlaneCosts
        When such layers run on bit planes instead.
    sums : SumCosts, optional
        When those of signs run on sums of codes, looked up, before either; None for never.
    fixed_layers : tuple of str
        Which of ``first`` and ``last`` may be rounded to fixed point.
    """

    sign_zero: str = "exact"
    word_bits: int = 64
    stage_images: bool = True
    pool_words: bool = False
    has_float_unit: bool = True
    has_doubles: bool = True
    widens_codes: bool = True
    sums_codes: bool = False
    planes: PlaneCosts = VECTORS
    sums: SumCosts | None = None
    fixed_layers: tuple[str, ...] = ()

    def __post_init__(self):
        if self.sign_zero not in SIGN_ZERO:
            raise InternalError(f"sign_zero is {self.sign_zero!r}; it is one of {', '.join(SIGN_ZERO)}.")
        if self.word_bits not in (8, 16, 32, 64):
            raise InternalError(f"word_bits is {self.word_bits}; words of 8, 16, 32 and 64 bits exist.")


@dataclass(frozen=True)
class TensorView:
    """How the value of a Relax variable relates to a tensor of the ONNX model.

    With `perm` alone, axis i of the variable is axis ``perm[i]`` of the ONNX tensor (NumPy's transpose). Where an axis of one is a product of axes of the
    other (a flattened image, slices of a sign on channels), the ONNX tensor is reshaped to `split` first and to `shape`, the variable's own, last. Numbers
    relate as ``onnx == value * scale + offset``, or by a table of levels where the variable holds but one plane of the tensor. Read a view through `from_onnx`
    and `to_onnx`.

    Parameters
    ----------
    onnx : str
        Name of the ONNX tensor.
    perm : tuple of int, optional
        None where the axes are in the same order.
    scale, offset : float
        1 and 0 as long as the variable holds the tensor's own numbers; codes of a quantizer have others.
    split, shape, onnx_shape : tuple of int, optional
        All three or none.
    levels : tuple of (float, int), optional
        Numbers of the ONNX tensor, ascending, each with what the variable holds there: one sign of a sum of signs, from which alone the number cannot be told.
    """

    onnx: str
    perm: tuple[int, ...] | None = None
    scale: float = 1.0
    offset: float = 0.0
    split: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    onnx_shape: tuple[int, ...] | None = None
    levels: tuple[tuple[float, int], ...] = ()

    def __post_init__(self):
        if len({self.split is None, self.shape is None, self.onnx_shape is None}) != 1:
            raise InternalError(f"The view of {self.onnx!r} needs split, shape and onnx_shape together.")

    def rescaled(self, scale: float, offset: float) -> TensorView:
        """Return the view of a variable of the same shape whose values relate to this one's by ``this == value * scale + offset``."""
        return replace(self, scale=float(self.scale * scale), offset=float(self.scale * offset + self.offset))

    def from_onnx(self, array: np.ndarray) -> np.ndarray:
        """Return what the variable holds when the ONNX tensor is `array`, in its dtype."""
        moved = array if self.split is None else array.reshape(self.split)
        moved = moved if self.perm is None else np.transpose(moved, self.perm)
        moved = moved if self.shape is None else moved.reshape(self.shape)
        if self.levels:
            return np.array([code for _, code in self.levels], moved.dtype)[self.nearest_level(moved)]
        return moved if (self.scale, self.offset) == (1.0, 0.0) else (moved - np.float32(self.offset)) / np.float32(self.scale)

    def nearest_level(self, numbers: np.ndarray) -> np.ndarray:
        """Return the place in `levels` of the one nearest to each number, int64."""
        heights = np.array([height for height, _ in self.levels])
        return np.searchsorted((heights[1:] + heights[:-1]) / 2, numbers)

    def to_onnx(self, value: np.ndarray) -> np.ndarray:
        """Return the ONNX tensor when the variable holds `value`.

        Raises
        ------
        InternalError
            The variable holds one plane of the tensor only.
        """
        if self.levels:
            raise InternalError(f"One plane does not tell the numbers of {self.onnx!r}.")
        moved = value if (self.scale, self.offset) == (1.0, 0.0) else value * np.float32(self.scale) + np.float32(self.offset)
        perm = tuple(range(len(self.split or value.shape))) if self.perm is None else self.perm
        moved = moved if self.split is None else moved.reshape([self.split[p] for p in perm])
        moved = np.transpose(moved, np.argsort(perm))
        return moved if self.onnx_shape is None else moved.reshape(self.onnx_shape)


@dataclass(frozen=True)
class LayerRow:
    """One layer of the report.

    Parameters
    ----------
    node, op : str
        Name and operator of the ONNX node.
    output : str
        Its output tensor.
    bits : bool
        Whether the layer runs on bits.
    reason : str
        Why it does, or why not.
    macs : int
        Multiply-accumulates.
    weight_bytes : int
        As compiled.
    in_shape, out_shape : tuple of int
    detail : str
        Anything more, for readers.
    integer : bool
        Whether the layer runs on small integers of more than one bit.
    """

    node: str
    op: str
    output: str
    bits: bool
    reason: str
    macs: int
    weight_bytes: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    detail: str = ""
    integer: bool = False


@dataclass
class PassContext:
    """Handed from pass to pass; `tensors` and `nodes` are keyed by the name of a Relax variable."""

    options: Options = field(default_factory=Options)
    tensors: dict[str, TensorView] = field(default_factory=dict)
    nodes: dict[str, NodeInfo] = field(default_factory=dict)
    layers: list[LayerRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    levels: dict[str, int] = field(default_factory=dict)
    """Name of a Relax variable to how many values it takes, where that is finite and more than bits hold."""

    unsigned_codes: set[str] = field(default_factory=set)
    """Names of Relax variables of uint8 that hold codes up to 255, not words of eight bits."""

    packed: dict[str, PackAttrs] = field(default_factory=dict)
    """Name of a Relax variable of words to how they hold their codes; `tensors` under the same name describes the codes."""

    rounded: set[str] = field(default_factory=set)
    """Which of the layers that were to be fixed point were rounded."""

    sign_zeros: dict[str, int] = field(default_factory=dict)
    """ONNX tensor with a plain Sign whose 0 matters to a binary layer, to its number of channels."""

    sums: dict[str, int] = field(default_factory=dict)
    """Name of the Relax variable of a layer's sums, integer or float, to the layer's place in `layers`."""

    measured: Callable | None = None
    """What kernels were measured to take, where records know: `bnncc.passes.assignment.Measured`."""

    fuse: Callable | None = None
    """The last pass, for other layouts of what it was given: `bnncc.passes.assignment.Fuse`."""

    assignment: tuple[str, ...] = ()
    """Which layouts were decided by measured times otherwise than by rule, for readers."""

    def are_words(self, var_name: str, dtype: str) -> bool:
        """Tell whether a variable of this element type holds words of bits, rather than codes or numbers."""
        return dtype.startswith("uint") and var_name not in self.unsigned_codes

    def onnx_name(self, var_name: str) -> str:
        """Return the ONNX tensor that this variable holds, else the variable's own name."""
        view = self.tensors.get(var_name)
        return view.onnx if view else var_name

    def tell_sums(self, var_name: str, how: str, adds: bool = False, **changes) -> None:
        """Put into the row of a layer how its sums are computed, if the variable holds such sums.

        Parameters
        ----------
        var_name : str
            The variable of the sums.
        how : str
        adds : bool
            Whether all that the row's reason says stays; else what is behind its first colon goes, where an earlier pass said how.
        **changes
            Other fields of the `LayerRow`.
        """
        index = self.sums.get(var_name)
        if index is not None:
            row = self.layers[index]
            reason = row.reason if adds else row.reason.split(": ")[0]
            self.layers[index] = replace(row, reason=f"{reason}: {how}", **changes)

    def warn(self, message: str) -> None:
        """Note a warning once."""
        if message not in self.warnings:
            self.warnings.append(message)

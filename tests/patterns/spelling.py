"""What the corpus knows about one spelling of an activation or of a weight, and the tables they are entered in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .onnx_graph import Graph, Tensor

__all__ = ["Activation", "Weight", "ACTIVATIONS", "WEIGHTS", "activation", "weight"]

EmitActivation = Callable[[Graph, Tensor], str]
EmitWeight = Callable[[Graph, tuple[int, ...]], str]


@dataclass(frozen=True)
class Activation:
    """One spelling of a quantizing activation.

    Parameters
    ----------
    at_zero : float or None
        The value at input 0; NaN where the source divides by zero, None where it differs from channel to channel.
    values : tuple of float
        Every value the activation takes; empty when they are too many to list.
    packs : bool or None
        Must the binary convolution behind it run on bits, according to the document? None: either, as long as it is right.
    opset : int
        Lowest opset that can spell it.
    custom : bool
        Uses an operator of another domain, so that onnxruntime runs only its twin.
    source : str
        The row of the document.
    """

    name: str
    emit: EmitActivation
    at_zero: float | None
    values: tuple[float, ...]
    packs: bool | None
    opset: int
    custom: bool
    source: str

    @property
    def step(self) -> float | None:
        """Largest of 1 and 1/4 that all values are multiples of; None where they are multiples of neither."""
        return next((step for step in (1.0, 0.25) if self.values and all(float(v / step).is_integer() for v in self.values)), None)


@dataclass(frozen=True)
class Weight:
    """One spelling of binary (or ternary) convolution weights.

    Parameters
    ----------
    bias : bool
        The convolution takes a second value, the bias, as a folded BatchNormalization leaves it.
    exact : bool
        Are the weights integers times a power of two, so that accumulators are exact in float32?
    size : float
        Typical magnitude of a weight.
    """

    name: str
    emit: EmitWeight
    packs: bool | None
    opset: int
    bias: bool
    exact: bool
    size: float
    source: str


ACTIVATIONS: dict[str, Activation] = {}
WEIGHTS: dict[str, Weight] = {}


def activation(
    source: str, at_zero: float | None, values: tuple[float, ...] = (), *, packs: bool | None = True, opset: int = 9, custom: bool = False
) -> Callable[[EmitActivation], EmitActivation]:
    """Enter the decorated builder in `ACTIVATIONS` under its own name."""

    def enter(emit: EmitActivation) -> EmitActivation:
        name = emit.__name__
        ACTIVATIONS[name] = Activation(name, emit, at_zero, values, packs, opset, custom, source)
        return emit

    return enter


def weight(
    source: str, *, packs: bool | None = True, opset: int = 9, bias: bool = False, exact: bool = True, size: float = 0.5
) -> Callable[[EmitWeight], EmitWeight]:
    """Enter the decorated builder in `WEIGHTS` under its own name."""

    def enter(emit: EmitWeight) -> EmitWeight:
        name = emit.__name__
        WEIGHTS[name] = Weight(name, emit, packs, opset, bias, exact, size, source)
        return emit

    return enter

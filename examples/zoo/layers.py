"""What several families share: spellings of sign, binary weights, and BatchNormalization fitted so that it exercises both signs.

A family's ``network.py`` imports from here; what only one family has stays in its file. The spellings that other code exports too are
in ``examples/export/torch_layers.py`` and are offered here under the same names.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1] / "export"))
from torch_layers import HardBinaryConv as _HardBinaryConv  # noqa: E402
from torch_layers import IRConv, MeanAbsConv, RPReLU, RSign, dorefa, pact, polynomial_sign, sign_detached, where_sign  # noqa: E402

__all__ = [
    "HardBinaryConv", "IRConv", "MeanAbsConv", "RPReLU", "RSign", "StraightThroughSign", "clamped_sign", "dorefa", "fit", "pact", "polynomial_sign",
    "sign_detached", "sign_function", "where_sign",
]  # fmt: skip


class HardBinaryConv(_HardBinaryConv):
    """As in the released code of Bi-Real Net and ReActNet: the latent weights are one flat column, small, and viewed as filters in the graph."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 3, stride: int = 1, padding: int = 1):
        super().__init__(c_in, c_out, kernel_size)
        self.shape, self.stride, self.padding = tuple(self.weight.shape), stride, padding
        del self.weight
        self.weights = nn.Parameter(torch.randn(math.prod(self.shape), 1) * 0.001)

    @property
    def weight(self) -> Tensor:
        """The filters, shape (Co, Ci, k, k)."""
        return self.weights.view(self.shape)


class StraightThroughSign(torch.autograd.Function):
    """The commonest spelling: sign forward, the gradient where |x| <= 1 backward; exporters see a plain Sign."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """Return sign(x): 0 stays 0."""
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        """Return the gradient of a hard tanh."""
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


sign_function = StraightThroughSign.apply


def clamped_sign(x: Tensor) -> Tensor:
    """Return sign(x) with zeros repaired to +1 by a look at the sign (hpi-xnor/bitorch, quantizations/sign.py)."""
    signed = torch.sign(x)
    return torch.where(signed == 0, torch.tensor(1.0), signed)


def fit(network: nn.Module, *shapes: tuple[int, ...], seed: int = 0, batch: int = 8, passes: int = 12) -> nn.Module:
    """Give BatchNormalization statistics of real data and scales of both signs; return the network in eval mode.

    Parameters
    ----------
    network : nn.Module
        Its random initialization stays, apart from the BatchNormalizations'.
    *shapes : tuple of int
        Of one sample of each input, with its batch dimension of 1.
    seed : int
    batch : int
        Samples a pass.
    passes : int
        Forward passes in training mode, from which running statistics are taken.

    Notes
    -----
    Scales are drawn from 0.5 .. 1.5, a third of them negated, and offsets from a normal distribution of deviation 0.3, so that thresholds
    differ from 0 and point both ways, as in trained networks.
    """
    generator = torch.Generator().manual_seed(seed)
    network.train()
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
            if norm.affine:
                drawn = torch.rand(2, norm.num_features, generator=generator)
                norm.weight.copy_(torch.where(drawn[0] < 1 / 3, -1.0, 1.0) * (0.5 + drawn[1]))
                norm.bias.copy_(torch.randn(norm.num_features, generator=generator) * 0.3)
        for _ in range(passes):
            network(*(torch.randn(batch, *shape[1:], generator=generator) for shape in shapes))
    return network.eval()

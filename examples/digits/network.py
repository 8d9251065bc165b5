"""The example network: a small convolutional network whose inner layers are binary."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BinaryConv2d", "DigitsNet", "binarize"]


class _SignThrough(torch.autograd.Function):
    """Binarize to {-1, +1} going forward; let the gradient pass where |x| <= 1 going back."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


def binarize(x: Tensor) -> Tensor:
    """Return +1 where `x` >= 0, else -1; differentiable by the straight-through estimator."""
    if torch.onnx.is_in_onnx_export():
        return torch.where(x >= 0, 1.0, -1.0)  # the exporter does not look into an autograd function
    return _SignThrough.apply(x)


class BinaryConv2d(nn.Conv2d):
    """A convolution of weights in {-1, +1}, stored as real numbers while they are trained; pads with zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, binarize(self.weight), None, self.stride, self.padding)


class DigitsNet(nn.Module):
    """Classify an 8 x 8 grey image.

    A float convolution reads the pixels; two binary convolutions follow, the second with a real-valued shortcut around it
    (Bi-Real-Net), each before its pooling; a float dense layer scores the ten digits.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(32)
        self.conv1 = BinaryConv2d(32, 64, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(64)
        self.conv2 = BinaryConv2d(64, 64, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(64)
        self.dense = nn.Linear(64 * 2 * 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Score images.

        Parameters
        ----------
        x : Tensor
            float32, (N, 1, 8, 8), pixels in 0..1.

        Returns
        -------
        Tensor
            float32, (N, 10), one logit a digit.
        """
        x = self.stem_norm(self.stem(x))
        x = F.max_pool2d(self.norm1(self.conv1(binarize(x))), 2)
        x = self.norm2(self.conv2(binarize(x))) + x
        x = F.max_pool2d(x, 2)
        return self.dense(x.flatten(1))

"""HWGQ-Net: Cai, He, Sun, Vasconcelos: Deep Learning with Low Precision by Half-wave Gaussian Quantization, CVPR 2017 (arXiv 1702.00953).

Checked against zhaoweicai/hwgq (Caffe: src/caffe/layers/quant_layer.cpp, binary_conv_layer.cpp, examples/cifar10/vgg-hwgq-3ne-clip-poly): activations are 0
up to 0 and one of 0.538, 1.076, 1.614 above, chosen by comparisons with 0 and the means of neighbours; weights are +1 from 0 on, else -1, times E|W| of the
filter; BatchNorm has no scale; first and last layer are float. Here the levels are a sum of comparisons.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class HwgqAct(nn.Module):
    """Quantizes a feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.538 * ((x > 0).float() + (x > 0.807).float() + (x > 1.345).float())


class BinaryConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, torch.where(self.weight >= 0, 1.0, -1.0) * alpha, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    network = LowBitNetwork(HwgqAct, BinaryConv)
    for name in ("norm", "norm1", "norm2"):
        setattr(network, name, nn.BatchNorm2d(getattr(network, name).num_features, affine=False))
    return fit(network, (1, 3, 16, 16))

"""XNOR-Net: Rastegari, Ordonez, Redmon, Farhadi: XNOR-Net, ECCV 2016 (arXiv 1603.05279), as its authors released it.

AlexNet's shape, narrower. Checked against allenai/XNOR-Net (models/alexnetxnor.lua, newLayers/BinActiveZ.lua, util.lua) and its PyTorch port
jiecaoyu/XNOR-Net-PyTorch (ImageNet/networks/model_list/alexnet.py, util.py), from which it takes dense layers for convolutions on 1x1 and the ReLU behind every
binary layer: BatchNorm (eps 1e-4) -> sign -> layer with bias -> ReLU -> pool; first and last layer float. Neither computes the paper's K. Weights are centred
over input channels, clamped to -1 .. 1 and overwritten by sign(W) * mean(|W|) before inference, so that the exporter sees constants.
"""

from __future__ import annotations

import torch
from layers import fit, sign_function
from torch import Tensor, nn


class BinConv2d(nn.Module):
    """BatchNorm, sign, convolution or dense layer, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int = -1, padding: int = -1, linear: bool = False):
        super().__init__()
        self.bn = (nn.BatchNorm1d if linear else nn.BatchNorm2d)(c_in, eps=1e-4, momentum=0.1, affine=True)
        self.layer = nn.Linear(c_in, c_out) if linear else nn.Conv2d(c_in, c_out, kernel_size, padding=padding)
        self.relu = nn.ReLU(inplace=True)
        with torch.no_grad():
            self.layer.weight.copy_(binarized(self.layer.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.layer(sign_function(self.bn(x))))


def binarized(weight: Tensor) -> Tensor:
    """Return what is written over the latent weights: centred, clamped, signed, times the mean magnitude of the filter."""
    weight = weight.add(weight.mean(1, keepdim=True).mul(-1).expand_as(weight)).clamp(-1.0, 1.0)
    scale = weight.flatten(1).norm(1, 1).div(weight[0].nelement())
    return weight.sign().mul(scale.view(-1, *(1,) * (weight.dim() - 1)).expand_as(weight))


class AlexNet(nn.Module):
    """Float 5x5, four binary convolutions, two binary dense layers, a float one."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, c, 5, padding=2), nn.BatchNorm2d(c, eps=1e-4), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2),
            BinConv2d(c, 24, 5, 2), nn.MaxPool2d(3, stride=2),
            BinConv2d(24, 24, 3, 1), BinConv2d(24, 24, 3, 1), BinConv2d(24, 16, 3, 1), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            BinConv2d(16 * 9, 32, linear=True), BinConv2d(32, 32, linear=True), nn.BatchNorm1d(32, eps=1e-3), nn.Dropout(), nn.Linear(32, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), 16 * 9))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(AlexNet(), (1, 3, 32, 32))

"""TWN: Li, Liu: Ternary Weight Networks, 2016.

Weights -a, 0, +a a filter, by the threshold 0.7 E|W|, with signs as activations (larq's ste_tern beside ste_sign). First and last layer are float. No PyTorch
or Keras code of the authors was found (fengfu-chris/caffe-twns is Caffe, with real activations): it follows the paper.
"""

from __future__ import annotations

from layers import fit
from low_bit import LowBitNetwork, SignActivation, TernaryConv
from torch import nn


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(SignActivation, TernaryConv), (1, 3, 16, 16))

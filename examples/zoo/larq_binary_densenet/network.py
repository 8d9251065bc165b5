"""BinaryDenseNet as larq-zoo builds it: each binary convolution's result is appended to the float features it read.

Bethge et al.: Back to Simplicity: How to Train Accurate BNNs from Scratch?, 2019. larq-zoo's own factory with three short
blocks and growth 16; the last block is dilated and not pooled before, as in BinaryDenseNet37Dilated.
"""

from __future__ import annotations

import tensorflow as tf
from larq_zoo.literature.densenet import BinaryDenseNetFactory
from zookeeper import factory

__all__ = ["build"]


@factory
class SmallFactory(BinaryDenseNetFactory):
    """Three blocks of two, one and one layers."""

    name = "binary_densenet_small"
    reduction = (1.5, 1.5)
    dilation_rate = (1, 1, 2)
    layers = (2, 1, 1)
    imagenet_weights_path = imagenet_no_top_weights_path = ""


def build() -> tf.keras.Model:
    """Return the network, float32[N, 64, 64, 3] to 10 probabilities, weights random."""
    return SmallFactory(input_shape=(64, 64, 3), weights=None, num_classes=10, initial_filters=16, growth_rate=16).build()

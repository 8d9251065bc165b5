"""QuickNet as larq-zoo builds it: stem, residual blocks (conv, ReLU, BatchNormalization, add; padded with ones), blur-pool transitions.

Bannink et al.: Larq Compute Engine: Design, Benchmark, and Deploy State-of-the-Art Binarized Neural Networks, MLSys 2021.
Faithful in everything but size: larq-zoo's own factory with two sections of two blocks.
"""

from __future__ import annotations

import tensorflow as tf
from larq_zoo.sota.quicknet import QuickNetFactory

__all__ = ["build"]


def build() -> tf.keras.Model:
    """Return the network, float32[N, 64, 64, 3] to 10 probabilities, weights random."""
    return QuickNetFactory(input_shape=(64, 64, 3), weights=None, num_classes=10, section_blocks=(2, 2), section_filters=(16, 32)).build()

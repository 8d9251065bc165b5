"""Real-to-Binary as larq-zoo builds it: the float gate (pool, dense, ReLU, dense, sigmoid) multiplies each binary convolution's output.

Martinez et al.: Training Binary Neural Networks with Real-to-Binary Convolutions, ICLR 2020. Blocks, shortcuts and head are
larq-zoo's; the stem has 16 channels in place of 64, and there are two blocks in place of eight.
"""

from __future__ import annotations

import tensorflow as tf
from larq_zoo.literature.real_to_bin_nets import RealToBinNetBNNFactory

__all__ = ["build"]


def build() -> tf.keras.Model:
    """Return the network, float32[N, 32, 32, 3] to 10 probabilities, weights random."""
    blocks = RealToBinNetBNNFactory(input_shape=(32, 32, 3), weights=None, num_classes=10)
    x = image = blocks.image_input
    x = tf.keras.layers.Conv2D(16, 7, strides=2, padding="same", use_bias=False)(x)
    x = tf.keras.layers.BatchNormalization()(x)
    x = tf.keras.layers.PReLU(shared_axes=[1, 2])(x)
    x = tf.keras.layers.MaxPool2D(3, strides=2, padding="same")(x)
    x = blocks.block(x, name="block_2")
    x = blocks.block(x, downsample=True, name="block_3")
    return tf.keras.Model(image, blocks.last_block(x, name="block_4"))

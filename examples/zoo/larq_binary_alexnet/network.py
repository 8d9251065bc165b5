"""BinaryAlexNet as larq-zoo builds it: a float image meets 11x11 binary weights, then binary convolutions, pools and dense layers to the end.

Hubara et al.: Binarized Neural Networks, NeurIPS 2016. larq-zoo's blocks with fewer channels; its dense layers are 1x1 convolutions.
"""

from __future__ import annotations

import tensorflow as tf
from larq_zoo.literature.binary_alex_net import BinaryAlexNetFactory

__all__ = ["build"]


def build() -> tf.keras.Model:
    """Return the network, float32[N, 96, 96, 3] to 10 probabilities, weights random."""
    blocks = BinaryAlexNetFactory(input_shape=(96, 96, 3), weights=None, num_classes=10)
    image = blocks.image_input
    x = blocks.conv_block(image, features=16, kernel_size=11, strides=4, pool=True, first_layer=True)
    x = blocks.conv_block(x, features=24, kernel_size=5, pool=True)
    x = blocks.conv_block(x, features=32, kernel_size=3)
    x = blocks.conv_block(x, features=32, kernel_size=3, pool=True)
    x = tf.keras.layers.Reshape((1, 1, 2 * 2 * 32))(x)
    x = blocks.dense_block(x, units=64)
    x = blocks.dense_block(x, units=10)
    return tf.keras.Model(image, tf.keras.layers.Softmax()(tf.keras.layers.Flatten()(x)))

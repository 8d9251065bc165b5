"""XNOR-Net as larq-zoo builds it: AlexNet with a scale a filter (mean of its absolute weights, computed in the graph), without K.

Rastegari et al.: XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks, ECCV 2016. larq-zoo's layers and
its weight quantizer with fewer channels.
"""

from __future__ import annotations

import larq as lq
import tensorflow as tf
from larq_zoo.literature.xnornet import xnor_weight_scale

__all__ = ["build"]


def build() -> tf.keras.Model:
    """Return the network, float32[N, 96, 96, 3] to 10 probabilities, weights random."""
    layers = tf.keras.layers

    def norm(x):
        return layers.BatchNormalization(scale=False, epsilon=1e-4)(x)

    def pool(x):
        return layers.MaxPool2D(3, strides=2)(x)

    def binary(x, filters, size, padding="same"):
        quantizers = {"input_quantizer": "ste_sign", "kernel_quantizer": xnor_weight_scale, "kernel_constraint": "weight_clip"}
        return lq.layers.QuantConv2D(filters, size, padding=padding, use_bias=False, **quantizers)(x)

    image = layers.Input((96, 96, 3))
    x = layers.Activation("relu")(norm(layers.Conv2D(16, 11, strides=4, padding="same", use_bias=False)(image)))
    x = norm(pool(x))
    x = norm(pool(binary(x, 24, 5)))
    x = norm(binary(x, 32, 3))
    x = norm(pool(binary(x, 32, 3)))
    x = norm(binary(x, 48, 2, padding="valid"))
    x = layers.Activation("relu")(norm(binary(x, 48, 1, padding="valid")))
    x = layers.Dense(10, use_bias=False)(layers.Flatten()(x))
    return tf.keras.Model(image, layers.Activation("softmax")(x))

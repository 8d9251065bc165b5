"""larq's other quantizers, a layer each: approximate sign, swish sign, magnitude-aware sign, and heaviside.

Geiger and Team: Larq: An Open-Source Library for Training Binarized Neural Networks, JOSS 2020. No network of a paper: what its
layers spell differently from ``ste_sign`` as tf2onnx writes them. (Keras compiles a convolution with `groups` apart, which tf2onnx does not take.)
"""

from __future__ import annotations

import larq as lq
import tensorflow as tf

__all__ = ["build"]


def build() -> tf.keras.Model:
    """Return the network, float32[N, 16, 16, 3] to 10 numbers, weights random."""

    def binary(x, inputs, kernels, **options):
        x = lq.layers.QuantConv2D(16, 3, padding="same", use_bias=False, input_quantizer=inputs, kernel_quantizer=kernels, **options)(x)
        return tf.keras.layers.BatchNormalization()(x)

    image = tf.keras.layers.Input((16, 16, 3))
    x = tf.keras.layers.BatchNormalization()(tf.keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(image))
    x = binary(x, lq.quantizers.ApproxSign(), lq.quantizers.MagnitudeAwareSign())
    x = binary(x, lq.quantizers.SwishSign(), lq.quantizers.SwishSign(), pad_values=-1.0)
    x = binary(x, lq.quantizers.SteHeaviside(), "ste_sign")
    x = binary(x, "ste_sign", lq.quantizers.ApproxSign(), strides=2)
    x = lq.layers.QuantDense(10, input_quantizer="ste_sign", kernel_quantizer="ste_sign", use_bias=False)(tf.keras.layers.Flatten()(x))
    return tf.keras.Model(image, tf.keras.layers.BatchNormalization()(x))

"""MeliusNet as larq-zoo builds it: dense blocks append channels, improvement blocks add to the last ones; a stem of grouped convolutions.

Bethge et al.: MeliusNet: Can Binary Neural Networks Achieve MobileNet-level Accuracy?, 2020. larq-zoo's blocks with 16 features
in place of 64, which its factory writes as a number, so the three functions that name it are restated here.
"""

from __future__ import annotations

import tensorflow as tf
from larq_zoo.core import utils
from larq_zoo.literature.meliusnet import MeliusNetFactory
from zookeeper import factory

__all__ = ["build"]

FEATURES = 16


@factory
class SmallFactory(MeliusNetFactory):
    """Two sections of one dense and one improvement block."""

    num_blocks = (1, 1)
    transition_features = (16, None)
    name = "meliusnet_small"
    imagenet_weights_path = imagenet_no_top_weights_path = ""

    def group_stem(self, x, name=None):
        """Convolve by 2, then in 4 and 8 groups, each split and concatenated again."""
        x = tf.keras.layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name=f"{name}_s0_conv")(x)
        x = self.act(self.norm(x))
        x = self.act(self.norm(self.group_conv(x, 16, 3, 4, name=f"{name}_s1")))
        x = self.act(self.norm(self.group_conv(x, 16, 3, 8, name=f"{name}_s2")))
        return self.pool(x)

    def dense_block(self, x, name=None):
        """Append FEATURES channels."""
        w = self.quant_conv(self.norm(x), FEATURES, 3, name=f"{name}_binconv")
        return utils.TFOpLayer(tf.concat, axis=-1, name=f"{name}_concat")([x, w])

    def improvement_block(self, x, name=None):
        """Add to the last FEATURES channels, by a pad of the sum's other channels."""
        w = self.quant_conv(self.norm(x), FEATURES, 3, name=f"{name}_binconv")
        others = int(x.shape[-1]) - FEATURES
        return tf.keras.layers.Lambda(lambda both: both[0] + tf.pad(both[1], [[0, 0], [0, 0], [0, 0], [others, 0]]))([x, w])


def build() -> tf.keras.Model:
    """Return the network, float32[N, 32, 32, 3] to 10 probabilities, weights random."""
    return SmallFactory(input_shape=(32, 32, 3), weights=None, num_classes=10).build()

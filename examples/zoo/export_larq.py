"""Export the zoo's larq networks by tf2onnx, or larq-zoo's own networks at full size.

Run it where larq, larq-zoo and tf2onnx are installed; README.md (*larq*) has the versions. All small networks or those named,
each to ``tf2onnx.onnx`` in its folder; with ``--full FOLDER`` larq-zoo's six networks at 224x224 and an input beside each::

    python examples/zoo/export_larq.py [NAME...] [--full FOLDER]
"""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path

import larq_zoo
import numpy as np
import tensorflow as tf
import tf2onnx

__all__ = ["FULL", "fit", "main"]

ROOT = Path(__file__).resolve().parent
FULL = {
    "quicknet": larq_zoo.sota.QuickNet,
    "real_to_binary": larq_zoo.literature.RealToBinaryNet,
    "binary_densenet28": larq_zoo.literature.BinaryDenseNet28,
    "meliusnet22": larq_zoo.literature.MeliusNet22,
    "binary_alexnet": larq_zoo.literature.BinaryAlexNet,
    "xnornet": larq_zoo.literature.XNORNet,
}


def fit(model: tf.keras.Model, images: np.ndarray, seed: int) -> None:
    """Draw scales of both signs, shifts and slopes, then take BatchNormalization's statistics of `images`, layer by layer.

    Parameters
    ----------
    model : tf.keras.Model
        Changed in place.
    images : numpy.ndarray
        float32[N, H, W, C].
    seed : int
        Of what is drawn.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0  # moving statistics become the batch's own
            channels = layer.moving_mean.shape[0]
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1.5, channels) * rng.choice([-1, 1], channels, p=[0.3, 0.7]))
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.3, channels))
        elif isinstance(layer, tf.keras.layers.PReLU):
            layer.alpha.assign(rng.uniform(-0.2, 0.5, layer.alpha.shape))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    model(images, training=True)


def _images(height: int, width: int, channels: int) -> np.ndarray:
    """Return four smooth random images with a little noise, float32[4, height, width, channels]."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 1.3, (4, height // 8, width // 8, channels)).astype(np.float32)
    return (tf.image.resize(coarse, (height, width)).numpy() + rng.normal(0, 0.3, (4, height, width, channels))).astype(np.float32)


def _export(model: tf.keras.Model, path: Path) -> np.ndarray:
    images = _images(*model.input_shape[1:])
    fit(model, images, seed=3)
    signature = [tf.TensorSpec((1, *images.shape[1:]), tf.float32, name="image")]
    tf2onnx.convert.from_keras(model, input_signature=signature, opset=13, output_path=str(path))
    print(f"{path}: {path.stat().st_size:,} bytes")
    return images[:1]


def main() -> None:
    """Export what the command line names."""
    known = sorted(path.parent.name.removeprefix("larq_") for path in ROOT.glob("larq_*/network.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; with --full of {', '.join(FULL)}")
    parser.add_argument("--full", type=Path, metavar="FOLDER", help="write larq-zoo's networks at 224x224 there")
    options = parser.parse_args()
    choices = list(FULL) if options.full else known
    if unknown := set(options.names) - set(choices):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(choices)}")
    for name in options.names or choices:
        tf.keras.utils.set_random_seed(7)
        if options.full:
            options.full.mkdir(parents=True, exist_ok=True)
            images = _export(FULL[name](weights=None, input_shape=(224, 224, 3)), options.full / f"{name}.onnx")
            np.save(options.full / f"{name}_x.npy", images)
        else:
            folder = ROOT / f"larq_{name}"
            _export(runpy.run_path(str(folder / "network.py"))["build"](), folder / "tf2onnx.onnx")


if __name__ == "__main__":
    main()

"""Train the example network on scikit-learn's digits and write digits.onnx and test.npz beside this file.

Run it in an environment of its own: ``pip install torch==2.13.0 scikit-learn onnx``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from network import BinaryConv2d, DigitsNet
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
SEED = 0


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return training images, test images (float32, (N, 1, 8, 8), 0..1), training labels and test labels (int64)."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    return train_test_split(images, digits.target, test_size=450, stratify=digits.target, random_state=SEED)


def shift_at_random(images: Tensor) -> Tensor:
    """Move every image by -1, 0 or +1 pixel along each axis, filling with 0."""
    padded = F.pad(images, (1, 1, 1, 1))
    rows = torch.randint(0, 3, (len(images), 1)) + torch.arange(8)
    cols = torch.randint(0, 3, (len(images), 1)) + torch.arange(8)
    index = torch.arange(len(images))
    return padded[index[:, None, None], 0, rows[:, :, None], cols[:, None, :]][:, None]


def train(images: Tensor, labels: Tensor, epochs: int) -> DigitsNet:
    """Train from scratch; the last epoch's network counts, the test images play no part."""
    net = DigitsNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    batch = 64
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for index in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            loss = F.cross_entropy(net(shift_at_random(images[index])), labels[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            for module in net.modules():
                if isinstance(module, BinaryConv2d):
                    module.weight.data.clamp_(-1, 1)  # beyond 1 the gradient would never come back
            total += loss.item() * len(index)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3}  loss {total / len(images):.4f}", flush=True)
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("-o", "--output", type=Path, default=HERE)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    train_x, test_x, train_y, test_y = load_split()
    net = train(torch.from_numpy(train_x), torch.from_numpy(train_y), args.epochs)
    with torch.no_grad():
        predicted = net(torch.from_numpy(test_x)).argmax(1).numpy()
    print(f"test accuracy {100 * (predicted == test_y).mean():.2f} % of {len(test_y)} images")
    args.output.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        net, (torch.zeros(1, 1, 8, 8),), str(args.output / "digits.onnx"),
        input_names=["image"], output_names=["logits"], opset_version=17, dynamo=False,
    )
    # stored as the 0..16 that scikit-learn ships: a fourth of the size and exact
    np.savez_compressed(args.output / "test.npz", images=np.round(test_x[:, 0] * 16).astype(np.uint8), labels=test_y.astype(np.uint8))


if __name__ == "__main__":
    main()

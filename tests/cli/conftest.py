"""Test images of the example network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .digits_commands import DIGITS


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("images") / "x.npy"
    with np.load(DIGITS / "test.npz") as data:
        np.save(path, data["images"][:40, None].astype(np.float32) / 16)
    return path

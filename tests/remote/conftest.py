"""A compiled network, and a server of TVM's RPC on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

import bnncc
from tests.remote.servers import rpc_server

MODEL = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"


@pytest.fixture(scope="session")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rpc") / "out"
    bnncc.compile(MODEL, target="native").save(folder)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server whose key is "board"."""
    with rpc_server(tmp_path_factory.mktemp("server")) as program:
        yield program

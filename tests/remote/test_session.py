"""Models on a board reached by TVM's RPC: a server on loopback, one with another key, one that is not there, one that says nothing, one that ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import bnncc
from bnncc.cli.app import app
from bnncc.errors import LibraryError
from bnncc.remote import load_remote

MODEL = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rpc") / "out"
    bnncc.compile(MODEL, target="native").save(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server's process and address; its key is "board"."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "tvm.exec.rpc_server", "--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1), "--key", "board"]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            if "bind to" in log.read_text():
                break
            time.sleep(0.1)
        yield process, f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def test_a_board_computes_what_is_computed_here_and_nothing_is_left_behind(server, out, tmp_path):
    before = set(Path(tempfile.gettempdir()).glob("bnncc-rpc-*"))
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", images)
    arguments = [
        "run",
        str(out),
        "--input",
        str(tmp_path / "x.npy"),
        "--output",
        str(tmp_path / "y.npy"),
        "--rpc",
        server[1],
        "--key",
        "board",
        "--timeout",
        "200",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), bnncc.load(out)(images))
    assert set(Path(tempfile.gettempdir()).glob("bnncc-rpc-*")) <= before


def test_a_wrong_key_is_told(server, out):
    with pytest.raises(LibraryError, match="key 'wrong' did not take the library.*Check host, port and key"):
        load_remote(out, server[1], "wrong", 120)


def test_no_server_is_told(out):
    with pytest.raises(LibraryError, match="did not take the library.*Check host, port and key"):
        load_remote(out, "127.0.0.1:1", "board", 60)


def test_a_board_that_says_nothing_is_told_within_the_time(out):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(LibraryError, match="within 3 s"):
            load_remote(out, f"127.0.0.1:{silent.getsockname()[1]}", "board", 3)
        assert time.monotonic() - start < 60


@pytest.mark.parametrize("address", ["board", "board:", ":9090", "board:x"])
def test_an_address_is_host_and_port(address, out):
    with pytest.raises(LibraryError, match=re.escape(repr(address))):
        load_remote(out, address, "board")


def started(arguments: list[str], log: Path, ready: str) -> subprocess.Popen:
    """Start a program of TVM's in a process group of its own and wait until it says that it is ready."""
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    for _ in range(600):
        if ready in log.read_text():
            return process
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_a_tracker_finds_a_board_and_a_session_that_drops_is_told(out, tmp_path):
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    place = [["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)] for port in ports]
    processes = [started(["tvm.exec.rpc_tracker", *place[0]], tmp_path / "tracker", "bind to")]
    try:
        tracker = f"127.0.0.1:{ports[0]}"
        processes.append(started(["tvm.exec.rpc_server", *place[1], "--key", "board", "--tracker", tracker], tmp_path / "server", "bind to"))
        model = load_remote(out, tracker, "board", 120, tracker=True)
        image = np.ones((1, 1, 8, 8), np.float32)
        np.testing.assert_array_equal(model(image), bnncc.load(out)(image))
        os.killpg(processes[1].pid, signal.SIGKILL)
        with pytest.raises(LibraryError, match="did not answer"):
            model(image)
    finally:
        for process in processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

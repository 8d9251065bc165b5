"""Devices that are not there, say nothing, refuse the key or end the session: each is told in a sentence, in time, and leaves nothing behind."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bnncc.errors import DeviceError
from bnncc.remote import Device, load_remote
from tests.remote.servers import Relay, free_port, rpc_server, rpc_tracker

IMAGE = np.ones((1, 1, 8, 8), np.float32)


def command_line(out, tmp_path, address: str, key: str = "board", timeout: float = 60):
    """Run the command line as a user does; return its exit code, what it said, and the seconds."""
    np.save(tmp_path / "x.npy", IMAGE)
    options = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", "--rpc", address, "--key", key, "--timeout", timeout]
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "bnncc", "run", out, *map(str, options)], capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split()), time.monotonic() - start


def test_a_wrong_key_is_told(server, out):
    with pytest.raises(DeviceError, match="refuses the key 'wrong'; give --key"):
        load_remote(out, Device(server.address, "wrong", 60))


def test_no_server_is_told(out):
    with pytest.raises(DeviceError, match="Nothing answers at 127.0.0.1:.*Connection refused.*rpc_server"):
        load_remote(out, Device(f"127.0.0.1:{free_port()}", "board", 60))


def test_a_host_that_is_none_is_told(out):
    with pytest.raises(DeviceError, match="Nothing answers at no.such.host.invalid:9090"):
        load_remote(out, Device("no.such.host.invalid:9090", "board", 60))


@pytest.mark.parametrize("address", ["board", "board:", ":9090", "board:x", "board:0", "board:70000"])
def test_an_address_is_host_and_port(address, out):
    with pytest.raises(DeviceError, match=re.escape(repr(address))):
        load_remote(out, Device(address))


def test_a_server_that_accepts_and_says_nothing_is_told_within_the_time(out, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, said, _ = command_line(out, tmp_path, f"127.0.0.1:{silent.getsockname()[1]}", timeout=2)
    assert code == 1 and "said nothing within 2 s" in said and "Traceback" not in said


@pytest.mark.parametrize(("most", "hang_up"), [(200, True), (60_000, False)], ids=["hangs up at the start", "goes silent in the middle of the library"])
def test_a_session_that_breaks_is_told_and_the_command_ends(most, hang_up, out, tmp_path):
    with rpc_server(tmp_path / "server", lasting=True) as server, Relay(server.address, most, hang_up) as relay:
        code, said, seconds = command_line(out, tmp_path, relay.address, timeout=6)
        relay.end()
        assert server.left() == []
        assert load_remote(out, Device(server.address, "board", 60))(IMAGE).shape == (1, 10)  # it serves the next
    assert code == 1 and relay.address in said and "error: " in said and "Traceback" not in said and "bug in bnncc" not in said, said
    assert hang_up or "within 6 s" in said, said
    assert seconds < 60


@pytest.mark.parametrize("hang_up", [False, True], ids=["goes silent", "hangs up"])
def test_a_session_that_breaks_between_calls_is_told_and_is_not_used_again(hang_up, server, out):
    with Relay(server.address, hang_up=hang_up) as relay:
        model = load_remote(out, Device(relay.address, "board", 4))
        model(IMAGE)
        relay.stop()
        with pytest.raises(DeviceError, match="There is no answer from"):
            model(IMAGE)
        start = time.monotonic()
        with pytest.raises(DeviceError, match="has ended with an error before"):
            model(IMAGE)
        assert time.monotonic() - start < 1
    assert server.left() == []
    assert load_remote(out, Device(server.address, "board", 60))(IMAGE).shape == (1, 10)  # the server serves the next


def test_a_server_killed_in_a_call_is_told(out, tmp_path):
    with rpc_server(tmp_path / "server") as program:
        model = load_remote(out, Device(program.address, "board", 60))
        killer = threading.Timer(0.2, program.kill)
        killer.start()
        with pytest.raises(DeviceError, match="There is no answer from"):
            for _ in range(100_000):
                model(IMAGE)
        killer.join()
        assert [name for name in program.left(1) if "." in name] == []  # not even now


def test_a_tracker_tells_its_keys_and_that_all_devices_are_busy(out, tmp_path):
    with rpc_tracker(tmp_path / "tracker") as tracker, rpc_server(tmp_path / "server", "board", tracker.address):
        with pytest.raises(DeviceError, match="knows no device of the key 'wrong'; it knows 'board'"):
            load_remote(out, Device(tracker.address, "wrong", 60))
        model = load_remote(out, Device(tracker.address, "board", 60))
        with pytest.raises(DeviceError, match="no free device of the key 'board' within 3 s: 1 of them is registered and busy"):
            load_remote(out, Device(tracker.address, "board", 3))
        model(IMAGE)
        del model
        assert load_remote(out, Device(tracker.address, "board", 60))(IMAGE).shape == (1, 10)  # the request that was given up takes no device

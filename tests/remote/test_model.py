"""Models on a device that TVM's RPC server or tracker makes reachable: the same results as here, from the same commands."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import bnncc
from bnncc.cli.app import app
from bnncc.remote import Device, load_remote
from tests.remote.conftest import MODEL
from tests.remote.servers import rpc_server, rpc_tracker


def invoked(*arguments) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)


def test_a_device_computes_what_is_computed_here_and_nothing_is_left_behind(server, out, images, tmp_path):
    before = set(Path(tempfile.gettempdir()).glob("bnncc-rpc-*"))
    np.save(tmp_path / "x.npy", images)
    invoked("run", out, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", "--rpc", server.address, "--key", "board", "--timeout", "200")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), bnncc.load(out)(images))
    assert set(Path(tempfile.gettempdir()).glob("bnncc-rpc-*")) <= before
    assert server.left() == []


def test_no_file_lies_on_the_device_while_the_model_runs(server, out, images):
    model = load_remote(out, Device(server.address, "board", 200))
    assert [name for name in server.left(1) if "." in name] == []
    np.testing.assert_array_equal(model(images), bnncc.load(out)(images))


def test_verify_runs_every_section_on_the_device(server, images, tmp_path):
    np.save(tmp_path / "x.npy", images)
    command = ["verify", MODEL, "--target", "native", "--input", tmp_path / "x.npy", "--rpc", server.address, "--key", "board", "--timeout", "200", "--json"]
    report = json.loads(invoked(*command))
    assert report["ok"] and len(report["sections"]) >= 4
    assert f"on {server.address} (key 'board')" in report["variant"]


def test_benchmark_takes_the_devices_own_clock(server, out):
    report = json.loads(invoked("benchmark", out, "--rpc", server.address, "--key", "board", "--timeout", "200", "--repeat", "5", "--json"))
    assert report["repeat"] == 5 and report["machine"]["emulated"] is False
    # a call over the network takes far longer than the microseconds that the device measures
    assert 0 < report["bnncc"]["fastest"] <= report["bnncc"]["median"] < 5e-3 and report["bnncc"]["calls_a_sample"] > 1


def test_a_device_is_not_compared_with_programs_of_this_machine(server, out):
    done = CliRunner().invoke(app, ["benchmark", str(out), "--rpc", server.address, "--key", "board", "--against", str(MODEL)])
    assert done.exit_code == 1 and "a ratio of the two says nothing" in " ".join(done.output.split())


def test_a_server_without_a_key_needs_none_and_a_tracker_is_told_by_its_answer(out, images, tmp_path):
    with rpc_tracker(tmp_path / "tracker") as tracker, rpc_server(tmp_path / "board", "board", tracker.address), rpc_server(tmp_path / "open", "") as plain:
        expected = bnncc.load(out)(images)
        for device in (Device(tracker.address, "board", 200), Device(plain.address, timeout=200)):
            np.testing.assert_array_equal(load_remote(out, device)(images), expected)


@pytest.mark.parametrize("arguments", [("--key", "board"), ("--threads", "2", "--rpc", "127.0.0.1:1")])
def test_options_that_do_not_go_together_are_told(arguments, out, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    done = CliRunner().invoke(app, ["run", str(out), "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy"), *arguments])
    assert done.exit_code == 2

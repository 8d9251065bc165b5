"""TVM's RPC server in an AArch64 Python under qemu-user, and a tracker: a model compiled here for 64-bit Arm runs, is verified and timed there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import bnncc
from bnncc.cli.app import app
from bnncc.errors import DeviceError
from bnncc.remote import Device, load_remote
from tests.remote.arm_python import Unavailable, arm_python
from tests.remote.conftest import MODEL
from tests.remote.servers import rpc_server, rpc_tracker

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A tracker with one emulated device of the key "arm"; both programs."""
    try:
        python = arm_python()
    except Unavailable as reason:
        pytest.skip(f"no AArch64 Python with TVM: {reason}")
    folder = tmp_path_factory.mktemp("arm")
    with rpc_tracker(folder / "tracker") as tracker, rpc_server(folder / "server", "arm", tracker.address, python, seconds=400) as server:
        yield tracker, server


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "out"
    bnncc.compile(MODEL, target="aarch64").save(folder)
    return folder


def command_line(*arguments) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_model_for_arm_runs_is_verified_and_timed_on_an_emulated_device_of_a_tracker(device, compiled, tmp_path):
    tracker, server = device
    images = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", images)
    rpc = ("--rpc", tracker.address, "--key", "arm", "--timeout", 200)
    command_line("run", compiled, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", *rpc)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), bnncc.load(compiled)(images))  # under the emulator, without TVM
    report = json.loads(command_line("verify", MODEL, "--target", "aarch64", "--input", tmp_path / "x.npy", *rpc, "--json"))
    assert report["ok"] and report["variant"].startswith(f"aarch64, on {tracker.address} (key 'arm')") and report["variant"].endswith(", emulated")
    timed = json.loads(command_line("benchmark", compiled, *rpc, "--repeat", 5, "--json"))
    assert timed["machine"]["emulated"] is True and timed["bnncc"]["median"] > 0
    assert "these times say nothing of the processor's speed" in command_line("benchmark", compiled, *rpc, "--repeat", 2)
    assert server.left() == []


def test_an_emulated_device_tunes_and_its_seconds_are_named_so(device, tmp_path):
    tracker, _ = device
    tune = ("tune", MODEL, "--target", "cortex-a55", "--trials", 2, "--database", tmp_path, "--rpc", tracker.address, "--key", "arm", "--timeout", 200)
    report = json.loads(command_line(*tune, "--json"))
    assert report["metric"] == "emulated seconds" and report["machine"].startswith("arm: ") and report["machine"].endswith(", emulated")
    assert len(report["tasks"]) > 3 and all(task["failures"] == 0 and task["untuned_value"] > 0 for task in report["tasks"])


def test_an_emulated_device_that_dies_in_the_middle_is_told(device, compiled):
    tracker, server = device
    model = load_remote(compiled, Device(tracker.address, "arm", 100))
    image = np.ones((1, 1, 8, 8), np.float32)
    model(image)
    server.kill()
    with pytest.raises(DeviceError, match="There is no answer from"):
        model(image)

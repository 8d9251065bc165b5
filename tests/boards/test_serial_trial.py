"""Trials over a serial port: a pseudo-terminal, behind which QEMU or a fake board speaks."""

from __future__ import annotations

import os
import shutil
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from bnncc.boards import find_board
from bnncc.boards.manifest import Access, Uart
from bnncc.boards.serial_trial import Answer, check_board, run_trial
from bnncc.compiler import compile
from bnncc.errors import DeviceError, InternalError, TargetError
from bnncc.tuning.runner import Job, Sample, write_samples
from bnncc.tuning.serial import SerialRunner

pytestmark = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="there is no cross compiler for Cortex-M")
UART = Uart(0x40004000, (0x40004004, 1, 0))
SETUP = (Access("write", 0x40004010, 16, 0, "the divider of the clock"), Access("write", 0x40004008, 1, 0, "the port sends"))
QEMU = "qemu-system-arm -M mps2-an386 -icount shift=5 -nographic -monitor none -serial file:{said} -kernel {{elf}} >/dev/null 2>&1 & echo $! >> {pids}"
SAID = '"$said"'
"""What a firmware says: a file of its own each time the board is flashed, since one that is written anew may have the length of the one before."""


class Wire:
    """A pseudo-terminal; what is written to the files of the folder `said` comes out of it."""

    def __init__(self, folder: Path):
        self.said, self.pids = folder / "said", folder / "pids"
        self.said.mkdir()
        self._end, self._slave = os.openpty()
        self.port, self._over = Path(os.ttyname(self._slave)), threading.Event()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self):
        sent: dict[Path, int] = {}
        while not self._over.wait(0.02):
            for file in self.said.iterdir():
                content = file.read_bytes()
                os.write(self._end, content[sent.get(file, 0) :])
                sent[file] = len(content)

    def close(self):
        self._over.set()
        self._thread.join()
        for pid in self.pids.read_text().split() if self.pids.exists() else []:
            try:
                os.kill(int(pid), 9)
            except ProcessLookupError:
                pass
        os.close(self._end)
        os.close(self._slave)

    def board(self, command: str):
        """Return a board that is flashed by a command of the shell, in the folder of the project."""
        # a board that is flashed runs the program before no more
        stop = f"[ -f {self.pids} ] && kill -9 $(cat {self.pids}); rm -f {self.pids}; said={self.said}/$(ls {self.said} | wc -l); "
        shell = stop + command.format(said=SAID, pids=self.pids)
        return replace(find_board("mps2-an386"), emulator=(), uart=UART, setup=SETUP, programmer=("sh", "-c", shell))


@pytest.fixture
def wire(tmp_path):
    made = Wire(tmp_path)
    yield made
    made.close()


def compiled(folder: Path, operator: str) -> Path:
    shape = [1, 4, 3, 3]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    compile(model, target="cortex-m4", name="candidate", database=False).save(folder)
    return folder


@pytest.fixture(scope="module")
def relu(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("relu") / "out", "Relu")


def samples() -> list[Sample]:
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((1, 4, 3, 3)).astype(np.float32) for _ in range(2)]
    return [Sample((x,), (np.maximum(x, 0),)) for x in given]


needs_qemu = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="there is no QEMU")


@needs_qemu
def test_a_board_says_the_checksums_of_its_outputs_and_its_cycles(wire, relu, tmp_path):
    (tmp_path / "build").mkdir()
    answer = run_trial(wire.board(QEMU), wire.port, relu, [sample.inputs for sample in samples()], tmp_path / "build", 40)
    assert answer.sums == tuple(zlib.crc32(sample.outputs[0].tobytes()) for sample in samples())
    assert answer.cycles > 0 and answer.wrong == ""


@needs_qemu
def test_a_candidate_is_compared_with_the_untuned_kernel_and_a_wrong_one_does_not_count(wire, relu, tmp_path):
    runner = SerialRunner(wire.board(QEMU), wire.port, 40)
    write_samples(tmp_path / "samples.npz", samples())
    assert len(runner.outputs(relu, samples())) == 2
    asked = Job(relu, relu, tmp_path / "samples.npz")
    measured = runner.measure(asked)
    assert measured.status == "ok" and measured.value == measured.untuned_value > 0 and runner.metric == "cycles"
    wrong = runner.measure(replace(asked, candidate=compiled(tmp_path / "neg", "Neg")))
    assert wrong.status == "wrong" and wrong.message == "2 of 2 outputs differ by their checksums"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("true", "said nothing on .* within 1 s"),
        ("printf 'Hello from another firmware' > {said}", "no answer to this trial: 'Hello from another firmware'"),
        (r"printf '\377\000\001\200' > {said}", r"no answer to this trial: .*115200"),
        ("grep -o 'trial [0-9a-f]*' main.c > {said}", "began its answer on .* and did not end it"),
        ("grep -oE '(trial|end) [0-9a-f]{{{{8}}}}' main.c > {said}", "The answer of the board on .* is damaged"),
        (
            "(grep -o 'trial [0-9a-f]*' main.c; printf 'code 00000000\\ncode 00000000\\nsum 00000000\\nwraps 00000000\\nbefore 00000005\\nafter 00000001\\n'; "
            "grep -oE 'end [0-9a-f]{{{{8}}}}' main.c) > {said}",  # of two samples, and one sum is lost
            "The answer of the board on .* is damaged",
        ),
    ],
)
def test_a_board_that_does_not_answer_is_told(command, message, wire, relu, tmp_path):
    runner = SerialRunner(wire.board(command), wire.port, 1)
    with pytest.raises(DeviceError, match=message):
        runner.outputs(relu, samples())
    write_samples(tmp_path / "samples.npz", samples())
    if command == "true":
        assert runner.measure(Job(relu, relu, tmp_path / "samples.npz")).status == "timeout"


def test_a_programmer_that_fails_is_told_with_its_last_lines(wire, relu):
    with pytest.raises(TargetError, match="failed to flash mps2-an386 .exit 3.*\n.*no probe"):
        SerialRunner(wire.board("echo no probe; exit 3"), wire.port, 1).outputs(relu, samples())


@pytest.mark.parametrize(("port", "message"), [("absent", "cannot be opened: No such file"), ("/dev/null", "is no serial port")])
def test_a_path_that_is_no_port_is_told(port, message, wire, relu, tmp_path):
    with pytest.raises(DeviceError, match=message):
        SerialRunner(wire.board("true"), tmp_path / port, 1).outputs(relu, samples())


@pytest.mark.parametrize(("board", "message"), [("mps2-an386", "uart.*programmer"), ("riscv32-virt", "counter of Arm"), ("arduino-nano-33-ble", "programmer")])
def test_a_board_without_what_a_trial_needs_is_told(board, message):
    with pytest.raises(TargetError, match=message):
        check_board(find_board(board))


def test_boards_that_name_a_programmer_can_be_measured():
    for board in ("nucleo-f446re", "stm32f746g-disco", "nrf52840-dk", "raspberry-pi-pico"):
        check_board(find_board(board))


def test_outputs_of_an_untuned_kernel_that_mean_something_else_are_a_bug():
    runner = SerialRunner(replace(find_board("mps2-an386"), uart=UART, programmer=("true",)), Path("port"))
    runner._run = lambda compiled, samples: Answer((1, 2), 5, "it returned 3")
    with pytest.raises(InternalError, match="it returned 3"):
        runner.outputs(Path("compiled"), samples())

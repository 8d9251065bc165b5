"""Threads share a call: the same result for any number of them, several contexts at once, no thread left behind."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading

import numpy as np
import onnx
import pytest
from codegen import modules
from onnx import helper, numpy_helper
from report.network import as_model

from bnncc.compiler import compile
from bnncc.errors import InputError
from bnncc.runtime import load
from bnncc.runtime import threads as threads_module

MAIN = """
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include "net.h"
int main(void)
{
    static float image[NET_INPUT_X_SIZE], alone[NET_OUTPUT_Y_SIZE], shared[NET_OUTPUT_Y_SIZE];
    struct net_inputs in = {image};
    struct net_outputs one = {alone}, two = {shared};
    struct net_threads threads;
    void *workspace = aligned_alloc(NET_WORKSPACE_ALIGN, NET_WORKSPACE_BYTES + NET_THREAD_BYTES);
    for (int i = 0; i < NET_INPUT_X_SIZE; ++i)
        image[i] = (float)(i * 7919 % 1000) / 500 - 1;
    int32_t refused = net_threads_start(&threads, 0), missing = net_threads_start(NULL, 2), count = net_threads_start(&threads, 2), status = 0, same = 1;
    for (int i = 0; i < 300; ++i) {
        memset(shared, 0, sizeof shared);
        status |= net_run(&in, &one, workspace) | net_threads_run(&threads, &in, &two, workspace);
        same &= !memcmp(alone, shared, sizeof alone);
    }
    int32_t null = net_threads_run(&threads, NULL, &two, workspace), misaligned = net_threads_run(&threads, &in, &two, (char *)workspace + 1);
    net_threads_stop(&threads);
    cpu_set_t here;
    sched_getaffinity(0, sizeof here, &here);
    printf("%d %d %d %d %d %d %d\\n", refused, missing, count == (CPU_COUNT(&here) < 2 ? 1 : 2), status, same, null, misaligned);
    free(workspace);
    return 0;
}
"""


def network() -> onnx.ModelProto:
    """Return a float convolution, a max pool, binary convolutions of 64, 512 and 512 channels and a mean: steps that rows, tiles and channels are shared of."""
    rng = np.random.default_rng(3)
    nodes, stored = [], []

    def conv(x, out, inputs, outputs, size, stride, binary):
        weights = rng.normal(size=(outputs, inputs, size, size)).astype(np.float32)
        stored.append(numpy_helper.from_array(np.where(weights < 0, -1, 1).astype(np.float32) if binary else weights, f"w_{out}"))
        stored.append(numpy_helper.from_array(rng.normal(size=outputs).astype(np.float32), f"b_{out}"))
        pads = [size // 2] * 4
        nodes.append(helper.make_node("Conv", [x, f"w_{out}", f"b_{out}"], [out], out, strides=[stride] * 2, pads=pads))

    conv("x", "stem", 3, 64, 5, 2, False)
    nodes.append(helper.make_node("MaxPool", ["stem"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]))
    x = "pool"
    for i, (inputs, outputs, stride) in enumerate(((64, 64, 1), (64, 512, 2), (512, 512, 1))):
        nodes.append(helper.make_node("Sign", [x], [f"s{i}"]))
        conv(f"s{i}", f"c{i}", inputs, outputs, 3, stride, True)
        x = f"c{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["y"]))
    return as_model(nodes, stored, (1, 3, 96, 96), (1, 512, 1, 1))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("threads") / "out"
    compile(network(), target="native", name="net", threads=8).save(folder)
    return folder


def images(count: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=(count, 3, 96, 96)).astype(np.float32)


def test_the_result_does_not_depend_on_the_number_of_threads(out, monkeypatch):
    monkeypatch.setattr(threads_module, "_PROCESSORS", 64)
    x, expected = images(3), load(out)(images(3))
    for threads in (2, 3, 5):
        model = load(out, threads=threads)
        # the library itself makes no more threads than there are processors; more parts are tried kernel by kernel in tests/schedules
        for _ in range(5):
            np.testing.assert_array_equal(model(x), expected)


def test_the_convolutions_are_shared(out):
    metadata = load(out).metadata
    (notes,) = metadata["model"]["kernel_notes"].values()
    parallel = {row["name"]: row["parallel"] for row in metadata["kernels"]}
    work = {kernel: row["macs"] for kernel, row in zip(metadata["variants"][0]["steps"], metadata["model"]["steps"], strict=True)}
    assert {notes[kernel] for kernel, macs in work.items() if macs and not parallel[kernel]} == set()
    assert sum(macs > 0 for macs in work.values()) == 4


def test_several_contexts_run_at_once(out):
    model, x = load(out, threads=2), images(6)
    expected, found, failures = load(out)(x), {}, []

    def call(index):
        try:
            found[index] = [model(x[index : index + 1]) for _ in range(20)]
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures
    for index, results in found.items():
        for result in results:
            np.testing.assert_array_equal(result, expected[index : index + 1])


def test_threads_end_with_the_model(out):
    def alive() -> set[str]:
        return set(os.listdir("/proc/self/task"))

    if threads_module.checked_count(2) < 2:
        pytest.skip("there is a single processor")
    x, before = images(1), alive()  # threads of other tests may end meanwhile
    model = load(out, threads=2)
    model(x)
    started = alive() - before
    assert len(started) == 1
    del model
    assert not started & alive()


def test_a_child_process_starts_threads_of_its_own(out):
    model, x = load(out, threads=2), images(1)
    expected = model(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(model(x), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_what_is_no_number_of_threads_is_refused(out, threads):
    with pytest.raises(InputError, match="threads is .*; give a whole number from 1 on"):
        load(out, threads=threads)


def test_more_threads_than_processors_are_not_started(out):
    assert load(out, threads=1000).threads <= len(os.sched_getaffinity(0))


def test_a_library_compiled_for_fewer_threads_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(threads_module, "_PROCESSORS", 64)
    modules.emit_network(tmp_path / "out", "x86-64-v2", threads=2)
    assert load(tmp_path / "out", threads=2).threads == 2
    with pytest.raises(InputError, match="was compiled for 2 threads, 3 were asked for. Compile with --threads 3"):
        load(tmp_path / "out", threads=3)


def test_the_number_of_threads_to_compile_for_is_checked():
    for target, threads in (("x86-64", 0), ("x86-64", 65), ("cortex-m4", 2)):
        with pytest.raises(InputError, match=f"threads is {threads}: give 1 to 64"):
            compile(network(), target=target, threads=threads)


def test_threads_that_the_system_does_not_give_are_an_error(out):
    library = ctypes.CDLL(str(out / "libnet.so"))
    state = np.zeros(96, np.uint64)
    assert library.net_threads_start(state.ctypes.data, 0) == -4
    library.net_error.restype = ctypes.c_char_p
    assert library.net_error(-4) == b"so many threads cannot be started"


def test_a_c_program_shares_calls_among_threads(out, tmp_path):
    (tmp_path / "main.c").write_text(MAIN)
    program = tmp_path / "main"
    command = ["gcc", "-std=c11", "-O1", "-Wall", "-Werror", f"-I{out}", tmp_path / "main.c", "-o", program, f"-L{out}", "-lnet", f"-Wl,-rpath,{out}"]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["-4", "-1", "1", "0", "1", "-1", "-3"]


def test_a_network_without_steps_to_share_needs_no_thread(tmp_path):
    modules.emit_network(tmp_path / "out", "x86-64-v2", threads=2)
    x = np.ones((6, 8), np.float32)
    before = len(os.listdir("/proc/self/task"))
    found = load(tmp_path / "out", threads=2)(x)
    assert len(os.listdir("/proc/self/task")) == before
    np.testing.assert_array_equal(found["again"], modules.network_reference(x)["again"])

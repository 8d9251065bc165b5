"""A lowered module becomes a library that computes the same, for every target, from Python and from C."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tvm
from tvm import relax

from bnncc.codegen import TensorSpec
from bnncc.errors import InternalError
from bnncc.runtime import load
from bnncc.targets import Target, Variant, find_target, target_names
from bnncc.targets.x86 import runs_here
from bnncc.toolchain import is_native
from codegen import modules

# libc and libm only; memcpy copies outputs, the rest is what kernels may call
ALLOWED_SYMBOLS = re.compile(r"(mem(cpy|set|move)|(exp|log|pow|tanh|floor|ceil|round|sqrt|fma)f?)(@.*)?")


def runnable_targets() -> list[str]:
    first = {name: find_target(name).variants[0] for name in target_names()}
    return [name for name, variant in first.items() if is_native(variant.tvm_target["mtriple"]) and runs_here(variant)]


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(6, 8)).astype(np.float32)


@pytest.mark.parametrize("target", runnable_targets())
def test_a_popcount_kernel_is_exact_on_every_target_that_runs_here(tmp_path, target):
    rng = np.random.default_rng(1)
    x, w = (rng.integers(0, 2**64, shape, dtype=np.uint64) for shape in ((16, 4), (4, 8)))
    modules.emit_popcount(tmp_path / "out", w, target)
    np.testing.assert_array_equal(load(tmp_path / "out")(x), modules.popcount_reference(x, w))


@pytest.mark.parametrize("target", runnable_targets())
def test_reshapes_copies_local_buffers_and_several_outputs_are_exact(tmp_path, target):
    modules.emit_network(tmp_path / "out", target)
    x = images()
    found, expected = load(tmp_path / "out")(x), modules.network_reference(x)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


def test_the_library_has_no_foreign_symbol_and_nothing_writable(tmp_path):
    modules.emit_network(tmp_path / "out", "x86-64")
    library = tmp_path / "out" / "libnet.so"

    def run(*command):
        return subprocess.run([*command, library], capture_output=True, text=True, check=True).stdout

    undefined = [line.split()[-1] for line in run("nm", "-D", "--undefined-only").splitlines()]
    assert [symbol for symbol in undefined if not ALLOWED_SYMBOLS.fullmatch(symbol)] == []
    defined = {line.split()[-1] for line in run("nm", "-D", "--defined-only").splitlines()}
    assert defined == {"net_run", "net_profile", "net_error", "net_variant", "net_has_feature", "net_entry_tail_run"}
    sections = run("readelf", "-SW")
    assert re.search(r" \.text ", sections)
    assert not re.search(r" \.(data|bss|tdata|tbss) ", sections)
    header = run("readelf", "-lW")
    assert "GNU_RELRO" in header
    assert re.search(r"GNU_STACK .* RW ", header)
    dynamic = run("readelf", "-dW")
    assert set(re.findall(r"NEEDED.*\[(.*)\]", dynamic)) <= {"libc.so.6", "libm.so.6"}
    assert "NOW" in dynamic


C_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include "net.h"

int main(void)
{
    static float x[NET_INPUT_X_SIZE], square[NET_OUTPUT_SQUARE_SIZE], same[NET_OUTPUT_SAME_SIZE];
    static float again[NET_OUTPUT_AGAIN_SIZE], scale[NET_OUTPUT_SCALE_SIZE];
    static uint8_t negative[NET_OUTPUT_IS_NEGATIVE_SIZE];
    static int8_t rest[NET_OUTPUT_INT_SIZE];
    struct net_inputs in = { x };
    struct net_outputs out = { square, negative, rest, same, again, scale };
    char *memory = (char *)aligned_alloc(NET_WORKSPACE_ALIGN, NET_WORKSPACE_BYTES + NET_WORKSPACE_ALIGN);
    fread(x, sizeof(float), NET_INPUT_X_SIZE, stdin);
    fprintf(stderr, "%d %d ", net_run(NULL, &out, memory), net_run(&in, &out, memory + 1));
    fprintf(stderr, "%d %s\n", net_run(&in, &out, memory), net_variant());
    fwrite(square, sizeof(float), NET_OUTPUT_SQUARE_SIZE, stdout);
    fwrite(negative, 1, NET_OUTPUT_IS_NEGATIVE_SIZE, stdout);
    fwrite(rest, 1, NET_OUTPUT_INT_SIZE, stdout);
    in.x = NULL;
    fprintf(stderr, "%d|%s|%s", net_run(&in, &out, memory), net_error(0), net_error(-3));
    free(memory);
    return 0;
}
"""


@pytest.mark.parametrize("compiler", [["gcc", "-std=c99", "-xc"], ["g++", "-std=c++11", "-xc++"]], ids=["c", "c++"])
def test_a_c_program_gets_the_same_bytes_as_python(tmp_path, compiler):
    modules.emit_network(tmp_path / "out", "x86-64")
    source, program = tmp_path / "main.c", tmp_path / "main"
    source.write_text(C_PROGRAM)
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-result", "-pedantic", "-D_ISOC11_SOURCE", "-D_GNU_SOURCE"]
    link = ["-xnone", f"-L{tmp_path / 'out'}", "-lnet", f"-Wl,-rpath,{tmp_path / 'out'}"]
    subprocess.run([*compiler, *warnings, f"-I{tmp_path / 'out'}", source, "-o", program, *link], check=True)
    x = images(3)
    done = subprocess.run([program], input=x.tobytes(), capture_output=True, check=True)
    found = load(tmp_path / "out")(x)
    assert done.stdout == found["square"].tobytes() + found["is negative?"].tobytes() + found["int"].tobytes()
    codes, rest = done.stderr.decode().splitlines()
    assert codes == f"-1 -3 0 {load(tmp_path / 'out').variant}"
    assert rest == "-1|no error|the workspace is not aligned to 64 bytes"


def test_the_metadata_describes_the_library(tmp_path):
    returned = modules.emit_network(tmp_path / "out", "x86-64")
    read = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert read == json.loads(json.dumps(returned))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["libnet.so", "metadata.json", "net.h"]
    assert read["library_bytes"] == (tmp_path / "out" / "libnet.so").stat().st_size
    assert [variant["name"] for variant in read["variants"]] == ["v2", "v3", "v4"]
    assert read["outputs"][1] == {"name": "is negative?", "shape": [48], "dtype": "bool"}
    assert read["entries"]["tail"]["inputs"] == [{"shape": [6, 8], "dtype": "float32"}]
    assert read["model"] == {"sample": 1}
    # 48 x 1024 float32 of scratch beside two tensors of 192 bytes
    assert read["workspace_bytes"] >= 48 * 1024 * 4
    assert read["variants"][1]["entries"]["main"]["arena_bytes"] == read["workspace_bytes"]
    # affine is called twice, and its constants, 32 bytes each, are there once
    assert {(kernel["name"], kernel["variant"]) for kernel in read["kernels"]} == {
        (name, variant)
        for name in ("affine", "sign_and_rest", "reversal_on_stack", "reversal_in_workspace")
        for variant in ("v2", "v3", "v4")
    }
    assert read["constants_bytes"] == 64 + 32


def test_progress_counts_distinct_kernels(tmp_path):
    seen = []
    modules.emit_network(tmp_path / "out", "x86-64-v2", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(count, 4) for count in range(5)]


def test_a_name_that_is_no_identifier_becomes_one(tmp_path):
    metadata = modules.emit_popcount(tmp_path / "out", name="1-bit net.onnx")
    assert metadata["name"] == "t1_bit_net_onnx"
    assert (tmp_path / "out" / "libt1_bit_net_onnx.so").exists()


def test_names_from_the_model_cannot_break_the_header(tmp_path):
    specs = [TensorSpec("a*/b\n", (16, 4), "uint64")], [TensorSpec("class", (16, 8), "int32")]
    modules.emit(modules.popcount_module(np.zeros((4, 8), np.uint64)), tmp_path / "out", *specs)
    header = tmp_path / "out" / "net.h"
    for command in (["gcc", "-std=c99", "-xc"], ["g++", "-xc++"]):
        subprocess.run([*command, "-fsyntax-only", "-Wall", "-Werror", header], check=True)
    assert load(tmp_path / "out")(**{"a*/b\n": np.zeros((16, 4), np.uint64)}).shape == (16, 8)


def test_a_variant_without_a_module_is_refused(tmp_path):
    module = modules.popcount_module(np.zeros((4, 8), np.uint64))
    with pytest.raises(InternalError, match=r"variants \['v2', 'v3', 'v4'\], but modules came for \['v2'\]"):
        modules.emit_library(
            {"v2": module}, name="n", target=find_target("x86-64"), inputs=[], outputs=[], metadata={}, out=tmp_path / "out"
        )
    assert list(tmp_path.iterdir()) == []


def test_announced_tensors_must_be_those_of_the_function(tmp_path):
    module = modules.popcount_module(np.zeros((4, 8), np.uint64))
    with pytest.raises(InternalError, match="inputs of the lowered function"):
        modules.emit(module, tmp_path / "out", [TensorSpec("x", (16, 5), "uint64")], [TensorSpec("y", (16, 8), "int32")])
    assert list(tmp_path.iterdir()) == []


def test_entries_must_be_the_same_in_all_variants(tmp_path):
    target = find_target("x86-64")
    lowered = {variant.name: modules.network_module() for variant in target.variants}
    lowered["v3"] = tvm.IRModule({var: func for var, func in lowered["v3"].functions.items() if var.name_hint != "tail"})
    with pytest.raises(InternalError, match="entry tail is not the same in all variants"):
        modules.emit_library(
            lowered,
            name="n",
            target=target,
            inputs=modules.NETWORK_INPUTS,
            outputs=modules.NETWORK_OUTPUTS,
            metadata={},
            out=tmp_path / "out",
        )


def emit_for(folder, triple: str, *features: str):
    variant = Variant("a", {"kind": "llvm", "mtriple": triple}, 128, 16, cpu_features=features)
    module = modules.popcount_module(np.zeros((4, 8), np.uint64))
    specs = [TensorSpec("x", (16, 4), "uint64")], [TensorSpec("y", (16, 8), "int32")]
    target = Target("other", "made up", (variant,))
    modules.emit_library({"a": module}, name="n", target=target, inputs=specs[0], outputs=specs[1], metadata={}, out=folder)


def test_an_architecture_without_a_template_is_refused(tmp_path):
    with pytest.raises(InternalError, match="target other: there is no dispatch template for the architecture riscv64"):
        emit_for(tmp_path / "out", "riscv64-linux-gnu")
    assert list(tmp_path.iterdir()) == []


def test_a_feature_that_the_check_does_not_know_is_refused(tmp_path):
    with pytest.raises(InternalError, match="feature sse9 is not known to the CPUID check"):
        emit_for(tmp_path / "out", "x86_64-linux-gnu", "sse9")
    assert list(tmp_path.iterdir()) == []


def test_an_input_may_be_the_only_output(tmp_path):
    builder = relax.BlockBuilder()
    x = relax.Var("x", modules.tensor(3))
    with builder.function("main", [x]):
        builder.emit_func_output(x)
    modules.emit(builder.get(), tmp_path / "out", [TensorSpec("x", (3,), "float32")], [TensorSpec("y", (3,), "float32")])
    np.testing.assert_array_equal(load(tmp_path / "out")(np.float32([1, 2, 3])), [1, 2, 3])


def test_a_library_for_more_than_this_machine_has_returns_minus_two(tmp_path):
    if runs_here(find_target("x86-64-v4").variants[0]):
        pytest.skip("this machine has all of AVX-512 that v4 needs")
    modules.emit_popcount(tmp_path / "out", target="x86-64-v4")
    # in a process of its own, as the alternative to the error code is SIGILL
    program = f"""
import ctypes
library = ctypes.CDLL({str(tmp_path / "out" / "libnet.so")!r})
library.net_variant.restype = library.net_error.restype = ctypes.c_char_p
data = (ctypes.c_char * 4096)()
address = ctypes.addressof(data)
pointers = (ctypes.c_void_p * 2)(address, address)
code = library.net_run(pointers, pointers, ctypes.c_void_p(address + -address % 64))
print(code, library.net_variant(), library.net_error(code).decode())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "-2 None this processor lacks instructions that the library was built for (x86-64-v4)"

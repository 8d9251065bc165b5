"""The generated C: no warnings under any compiler, no sanitizer speaks on the host, no state, no floating point where there is none, names of the model."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

import bnncc
from bnncc.spec import ByteInput
from bnncc.targets import find_target

from .test_projects import model, need

STRICT = ("-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic")
COMPILERS = {
    "gcc": ("cortex-m0", ()),
    "clang": ("cortex-m4", ()),
    "arm-none-eabi-gcc": ("cortex-m4", find_target("cortex-m4").variants[0].c_options),
    "riscv64-unknown-elf-gcc": ("riscv32imc", (*find_target("riscv32imc").variants[0].c_options, "--specs=picolibc.specs")),
}
BYTES = {"tfc_1w1a": {"": ByteInput(1 / 255)}, "gtsrb_bnn_30": {"": ByteInput()}}
SHAPES = {"tfc_1w1a": None, "gtsrb_bnn_30": {"quant_conv2d_20_input": (1, 30, 30, 3)}}
CASES = [("tfc_1w1a", "speed", True), ("tfc_1w1a", "ram", False), ("gtsrb_bnn_30", "speed", True), ("gtsrb_bnn_30", "flash", False)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a function that compiles a model to C once: its folder and its metadata."""
    known = {}

    def c_of(name: str, wanted: str = "speed", takes_bytes: bool = True, target: str = "cortex-m0"):
        key = (name, wanted, takes_bytes, target)
        if key not in known:
            meaning = BYTES[name] if takes_bytes else None
            folder = tmp_path_factory.mktemp("c") / "out"
            artifact = bnncc.compile(model(name), target=target, shapes=SHAPES[name], optimize_for=wanted, byte_inputs=meaning)
            known[key] = folder, artifact.save(folder)
        return known[key]

    return c_of


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", SHAPES)
def test_no_compiler_warns(written, name, compiler):
    need(compiler)
    target, options = COMPILERS[compiler]
    folder, _ = written(name, target=target)
    command = [compiler, *STRICT, *options, "-O1", "-c", "-o", "/dev/null", str(folder / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


HARNESS = """
#include "NAME.h"
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    /* each in memory of its own, so that a byte beyond its end is told */
    void *in = malloc(INPUT), *out = malloc(OUTPUT), *work = aligned_alloc(NAME_WORKSPACE_ALIGN, NAME_WORKSPACE_BYTES);
    struct NAME_inputs inputs = {in};
    struct NAME_outputs outputs = {out};
    while (fread(in, 1, INPUT, stdin) == INPUT) {
        if (NAME_run(&inputs, &outputs, work))
            return 1;
        fwrite(out, 1, OUTPUT, stdout);
    }
    free(in), free(out), free(work);
    return 0;
}
"""


def nbytes(tensors) -> int:
    return sum(int(np.prod(t["shape"])) * np.dtype(t["dtype"]).itemsize for t in tensors)


@pytest.mark.parametrize(("name", "wanted", "takes_bytes"), CASES)
def test_sanitizers_find_nothing_and_the_host_computes_what_x86_code_does(written, tmp_path, name, wanted, takes_bytes):
    need("gcc")
    folder, metadata = written(name, wanted, takes_bytes)
    sizes = {"INPUT": str(nbytes(metadata["inputs"])), "OUTPUT": str(nbytes(metadata["outputs"]))}
    text = HARNESS.replace("NAME_W", f"{name.upper()}_W").replace("NAME", name)
    for word, size in sizes.items():
        text = re.sub(rf"\b{word}\b", size, text)
    (tmp_path / "main.c").write_text(text)
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g", "-ffp-contract=off", "-std=c11", f"-I{folder}"]
    built = subprocess.run(
        ["gcc", *checks, str(tmp_path / "main.c"), str(folder / f"{name}.c"), "-lm", "-o", str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    if "cannot find" in built.stderr:
        pytest.skip("this gcc has no sanitizers")
    assert built.returncode == 0, built.stderr
    (tensor,) = metadata["inputs"]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *tensor["shape"])).astype(np.uint8)
    images = images if takes_bytes else (images / 255).astype(np.float32)
    done = subprocess.run([str(tmp_path / "run")], input=images.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    bnncc.compile(model(name), target="x86-64-v2", shapes=SHAPES[name], byte_inputs=BYTES[name] if takes_bytes else None).save(tmp_path / "x86")
    library = bnncc.load(tmp_path / "x86")
    wanted_here = np.stack([library(image) for image in images])
    found = np.frombuffer(done.stdout, np.float32).reshape(wanted_here.shape)
    np.testing.assert_allclose(found, wanted_here, rtol=0 if name == "tfc_1w1a" else 1e-5)  # a softmax is of another C library


@pytest.mark.parametrize("name", SHAPES)
def test_no_data_is_written_and_every_public_name_is_the_model_s(written, tmp_path, name):
    need("arm-none-eabi-gcc", "arm-none-eabi-nm")
    folder, _ = written(name)
    made = tmp_path / "model.o"
    subprocess.run(["arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", "-std=c99", "-O1", "-c", str(folder / f"{name}.c"), "-o", str(made)], check=True)
    listed = subprocess.run(["arm-none-eabi-nm", str(made)], capture_output=True, text=True, check=True).stdout
    symbols = [tuple(line.split()[-2:]) for line in listed.splitlines()]
    assert [symbol for kind, symbol in symbols if kind in "bBdDsSC"] == []
    assert [symbol for kind, symbol in symbols if kind.isupper() and kind != "U"] == [f"{name}_run"]
    header = (folder / f"{name}.h").read_text()
    assert [found for found in re.findall(r"^(?:#define|struct|int32_t) (\w+)", header, re.M) if not found.lower().startswith(name)] == []


def test_each_layer_is_a_function_with_a_comment_that_names_its_nodes(written):
    folder, _ = written("gtsrb_bnn_30")
    text = (folder / "gtsrb_bnn_30.c").read_text()
    functions = re.findall(r"/\* (.*) \*/\nKERNEL void (layer_\w+)\(", text)
    assert len(functions) == len(re.findall(r"^KERNEL void layer_", text, re.M)) > 0
    comments = "; ".join(comment for comment, _ in functions)
    assert [node for node in ("QuantConv2D", "quant_dense_10", "Softmax") if node not in comments] == []


SOFT_FLOAT = r"\b(__aeabi_[a-z]*[fd]\w*|__\w*[sd]f[23]|__\w*[sd]i[sd]f|__\w*[sd]f[sd]i|\w+f)\b"


@pytest.mark.parametrize(("target", "prefix"), [("cortex-m0", "arm-none-eabi-"), ("cortex-m3", "arm-none-eabi-"), ("riscv32imc", "riscv64-unknown-elf-")])
def test_a_network_binary_throughout_needs_no_floating_point(written, tmp_path, target, prefix):
    need(f"{prefix}gcc", f"{prefix}nm")
    folder, _ = written("tfc_1w1a", target=target)
    options = [*find_target(target).variants[0].c_options, *(["--specs=picolibc.specs"] if target.startswith("riscv") else [])]
    made = tmp_path / "model.o"
    subprocess.run([f"{prefix}gcc", *options, "-std=c99", "-O2", "-c", str(folder / "tfc_1w1a.c"), "-o", str(made)], check=True)
    needed = subprocess.run([f"{prefix}nm", "-u", str(made)], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in needed if re.fullmatch(SOFT_FLOAT, name)] == []


def test_the_search_for_floating_point_finds_it():
    names = ("__aeabi_fadd", "__aeabi_i2f", "__addsf3", "__floatsisf", "expf", "memset", "__aeabi_memcpy")
    assert [bool(re.fullmatch(SOFT_FLOAT, name)) for name in names] == [
        *[True] * 5,
        *[False] * 2,
    ]

"""``--format c`` for processors with an operating system: C99 that any of their compilers takes computes what their library does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import bnncc
from bnncc.errors import InputError, TargetError

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
STRICT = ("-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic", "-O2", "-ffp-contract=off")
PROGRAMS = {"x86-64": (["gcc"], []), "aarch64": (["aarch64-linux-gnu-gcc", "-static"], ["qemu-aarch64"])}
MAIN = """
#include "digits.h"
#include <stdio.h>
static float image[64], logits[10], workspace[DIGITS_WORKSPACE_BYTES / 4 + 16];
int main(void)
{
    const struct digits_inputs in = {image};
    const struct digits_outputs out = {logits};
    while (fread(image, sizeof image, 1, stdin) == 1) {
        if (digits_run(&in, &out, workspace))
            return 1;
        fwrite(logits, sizeof logits, 1, stdout);
    }
    return 0;
}
"""


@pytest.mark.parametrize("target", PROGRAMS)
def test_a_program_around_the_c_computes_what_the_library_does(target, tmp_path):
    compiler, emulator = PROGRAMS[target]
    for program in (compiler[0], *emulator):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    metadata = bnncc.compile(DIGITS / "digits.onnx", target=target, output_format="c").save(tmp_path / "c")
    assert metadata["files"] == ["digits.c", "digits.h", "metadata.json"]
    main = tmp_path / "main.c"
    main.write_text(MAIN)
    built = [*compiler, *STRICT, f"-I{tmp_path / 'c'}", str(main), str(tmp_path / "c" / "digits.c"), "-lm", "-o", str(tmp_path / "main")]
    done = subprocess.run(built, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    images = np.load(DIGITS / "test.npz")["images"][:20, None].astype(np.float32) / 16
    made = subprocess.run([*emulator, str(tmp_path / "main")], input=images.tobytes(), capture_output=True, check=True).stdout
    bnncc.compile(DIGITS / "digits.onnx", target="native").save(tmp_path / "library")
    library = bnncc.load(tmp_path / "library")
    wanted = np.concatenate([library(image[None]) for image in images])
    np.testing.assert_allclose(np.frombuffer(made, np.float32).reshape(20, 10), wanted, rtol=1e-5, atol=1e-5)


def test_c_knows_no_threads():
    with pytest.raises(InputError, match="1 where the output is C"):
        bnncc.compile(DIGITS / "digits.onnx", target="aarch64", output_format="c", threads=2)


def test_a_microcontroller_loads_no_library():
    with pytest.raises(TargetError, match="cortex-m4 is written as c or object, not as so"):
        bnncc.compile(DIGITS / "digits.onnx", target="cortex-m4", output_format="so")

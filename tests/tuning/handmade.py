"""Candidates written by hand: compiled models of one kernel that doubles four floats, or does something worse."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np

from bnncc.toolchain import find_compiler
from bnncc.tuning.runner import Job, Sample, write_samples

__all__ = ["DOUBLE", "TRIPLE", "candidate", "job"]

TRIPLE = "x86_64-linux-gnu"
DOUBLE = "for (int i = 0; i < 4; i++) y[i] = 2 * x[i];"


def candidate(folder: Path, body: str) -> Path:
    """Write a compiled model whose kernel has this body, with ``x`` and ``y``, the input and the output."""
    folder.mkdir()
    source, library = folder / "candidate.c", folder / "libcandidate.so"
    source.write_text(f"""
        #include <stdint.h>
        #include <stdlib.h>
        #include <time.h>
        const char *candidate_variant(void) {{ return "here"; }}
        int32_t candidate_run(float *const *in, float *const *out, void *workspace) {{ const float *x = in[0]; float *y = out[0]; {body} return 0; }}
    """)
    subprocess.run([*find_compiler(TRIPLE), "-O2", "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    content = library.read_bytes()
    tensor = {"shape": [4], "dtype": "float32"}
    entry = {"symbol": "candidate_run", "inputs": [tensor], "outputs": [tensor], "workspace_bytes": 64}
    metadata = {
        "format": "bnncc-library", "format_version": 1, "name": "candidate", "files": [library.name], "target": "here", "triple": TRIPLE, "features": [],
        "variants": [], "inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}], "entries": {"main": entry}, "workspace_bytes": 64,
        "workspace_align": 64, "library_bytes": len(content), "library_sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def job(folder: Path, body: str, calls: int = 5) -> Job:
    """Return a job of such a candidate beside one that doubles."""
    folder.mkdir(parents=True)
    x = [np.arange(4, dtype=np.float32), np.full(4, -1.5, np.float32)]
    write_samples(folder / "samples.npz", [Sample((row,), (2 * row,)) for row in x])
    return Job(candidate(folder / "candidate", body), candidate(folder / "untuned", DOUBLE), folder / "samples.npz", calls)

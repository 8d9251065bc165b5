"""``make demo``'s program runs and prints figures that add up."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_demo_compiles_classifies_and_compares(tmp_path):
    command = [sys.executable, EXAMPLES / "digits" / "demo.py", "-o", tmp_path / "out"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    size = (tmp_path / "out" / "libdigits.so").stat().st_size
    assert f"{size:,} bytes" in result.stdout
    right = dict(re.findall(r"^(bnncc|onnxruntime) +(\d+) of 450 right", result.stdout, re.MULTILINE))
    assert int(right["bnncc"]) >= 432 and int(right["onnxruntime"]) >= 432  # 96 %
    assert "classify differently: 0" in result.stdout
    assert re.search(r"^bnncc .*(µs|ms)", result.stdout, re.MULTILINE) and re.search(r"^onnxruntime .*(µs|ms)", result.stdout, re.MULTILINE)

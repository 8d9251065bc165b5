"""An AArch64 Python with TVM that qemu-user runs: Debian's packages and the wheels of the package index, unpacked into the user's cache, once.

Nothing is installed: apt resolves and fetches the packages with lists and a status of its own, as for an empty system, so neither root nor a foreign
architecture is needed.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs

__all__ = ["Unavailable", "arm_python"]

_PACKAGES = ("python3", "libstdc++6")
_WHEELS = ("apache-tvm", "apache-tvm-ffi", "numpy", "psutil", "cloudpickle", "ml_dtypes", "typing_extensions")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_SECONDS = 900


class Unavailable(Exception):
    """There can be no such Python here; the message says why."""


def arm_python() -> str:
    """Return the program to be called as ``python``; it is made at the first call.

    Raises
    ------
    Unavailable
        An emulator, apt or the package index is missing.
    """
    missing = [name for name in ("qemu-aarch64", "apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        raise Unavailable(f"no {', '.join(missing)} here")
    version = importlib.metadata.version("apache-tvm")
    root = Path(platformdirs.user_cache_dir("bnncc", appauthor=False)) / f"arm-python-tvm-{version}"
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as temporary:
            made = Path(temporary) / "root"
            _unpack_packages(made, Path(temporary) / "apt")
            _unpack_wheels(made, Path(temporary) / "pip")
            _write_program(made, root)
            try:
                made.rename(root)
            except OSError:
                if not root.exists():  # another process may have been first
                    raise
    return str(root / "python")


def _call(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise Unavailable(f"`{command[0]}` failed: {' '.join(done.stderr.split())[-300:]}")


def _unpack_packages(root: Path, work: Path) -> None:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _call("apt-get", "-q", *options, "update")
    _call("apt-get", "-q", "-y", *options, "--download-only", "install", *_PACKAGES)
    for package in sorted((work / "cache/archives").glob("*.deb")):
        _call("dpkg-deb", "-x", package, root)


def _unpack_wheels(root: Path, work: Path) -> None:
    python = _interpreter(root).removeprefix("python")
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    wheels = [f"{name}=={importlib.metadata.version(name)}" for name in _WHEELS]
    choice = ["--only-binary=:all:", "--python-version", python, *platforms]
    _call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--cache-dir", work, *choice, "--target", root / "site", *wheels)


def _interpreter(root: Path) -> str:
    names = [file.name for file in (root / "usr/bin").glob("python3.*") if os.access(file, os.X_OK)]
    if len(names) != 1:
        raise Unavailable(f"the packages hold {len(names)} interpreters")
    return names[0]


def _write_program(made: Path, root: Path) -> None:
    """Write the program; the server starts its workers by ``sys.executable``, which is the emulator's own guest unless it is told."""
    program = made / "python"
    program.write_text(f'#!/bin/sh\nexec qemu-aarch64 -L "{root}" -E PYTHONPATH="{root}/site" "{root}/usr/bin/{_interpreter(made)}" "$@"\n')
    program.chmod(0o755)
    (made / "site/sitecustomize.py").write_text(f"import sys\n\nsys.executable = {str(root / 'python')!r}\n")

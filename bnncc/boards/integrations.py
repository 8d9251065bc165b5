"""The same C files as an Arduino library and as a Zephyr module: both lie in the project's folder, beside the firmware.

Arduino's tools copy a library, so its folder holds the C files again; a Zephyr module is the project's folder itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import jinja2

from bnncc import __version__
from bnncc.codegen.c_text import c_tensors
from bnncc.spec import TensorSpec
from bnncc.targets import find_target

__all__ = ["INTEGRATION_FOLDERS", "write_integrations"]

INTEGRATION_FOLDERS = ("arduino", "zephyr")

_ARCHITECTURES = {"cortex-m0": "nrf5", "cortex-m0plus": "rp2040,mbed_rp2040,samd", "cortex-m3": "sam", "cortex-m4": "mbed_nano,mbed_nrf52840,stm32"}
"""Arduino's cores for each of ours, where it has some; the library is offered to all (``*``) where not."""


def write_integrations(environment: jinja2.Environment, metadata: Mapping, target: str, staging: Path) -> None:
    """Write the folders ``arduino`` and ``zephyr`` of a project.

    Parameters
    ----------
    environment : jinja2.Environment
        Finds the templates.
    metadata : mapping
        Of the compiled C, which lies in `staging`.
    target : str
        What it was compiled for.
    staging : Path
        The project's folder.
    """
    name = metadata["name"]
    specs = {part: [TensorSpec(t["name"], tuple(t["shape"]), t["dtype"]) for t in metadata[part]] for part in ("inputs", "outputs")}
    context = {
        **{"name": name, "macro": name.upper(), "target": target, "version": __version__, "architectures": _ARCHITECTURES.get(target, "*")},
        **{part: c_tensors(tensors) for part, tensors in specs.items()},
        "options": " ".join(option for option in find_target(target).variants[0].c_options if option.startswith("-fno-")),
    }
    arduino, zephyr = staging / "arduino" / name, staging / "zephyr"
    files = {
        "library.properties.j2": arduino / "library.properties",
        "sketch.ino.j2": arduino / "examples" / f"{name}_run" / f"{name}_run.ino",
        "module.yml.j2": zephyr / "module.yml",
        "zephyr.cmake.j2": zephyr / "CMakeLists.txt",
        "Kconfig.j2": zephyr / "Kconfig",
    }
    for template, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template(template).render(context), encoding="utf-8")
    (arduino / "src").mkdir()
    for ending in ("c", "h"):
        shutil.copyfile(staging / f"{name}.{ending}", arduino / "src" / f"{name}.{ending}")

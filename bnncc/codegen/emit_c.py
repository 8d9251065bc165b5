"""A lowered module to a folder with one C99 file, its header and its metadata: no runtime, no heap, no mutable data."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tvm

from bnncc import __version__
from bnncc.codegen.c_text import c_comment, c_tensors, template_environment
from bnncc.codegen.emit import plan_program
from bnncc.codegen.lower_tir import LoweredKernel, lower_kernel
from bnncc.codegen.names import c_identifiers, c_type
from bnncc.codegen.output import C_FORMAT, METADATA_FILE, OBJECT_FORMAT, output_folder
from bnncc.codegen.print_c import PREAMBLE, print_function
from bnncc.codegen.program import Buffer, Program, read_entries
from bnncc.codegen.signature import checked_specs, described
from bnncc.errors import ToolchainError
from bnncc.spec import TensorSpec
from bnncc.targets import Target, Variant
from bnncc.toolchain import bare_metal_prefix

__all__ = ["C_ALIGNMENT", "C_STACK_BYTES", "emit_c"]

C_ALIGNMENT = 8
"""Of the workspace and what lies in it, in bytes: the widest element."""

C_STACK_BYTES = 512
"""Local buffers of one kernel on the stack; larger ones lie in the arena, where the header counts them."""

_PER_LINE = 16


def _array(array: np.ndarray, name: str) -> str:
    """Return the definition of a constant array."""
    flat = array.reshape(-1)
    if flat.dtype.kind == "f":
        items = ["INFINITY" if v == np.inf else "-INFINITY" if v == -np.inf else f"{str(v) if any(c in str(v) for c in '.e') else f'{v}.0'}f" for v in flat]
    elif flat.dtype.kind == "u":
        items = [f"{v:#x}{'u' if flat.dtype.itemsize >= 4 else ''}" for v in flat.tolist()]
    else:
        items = ["INT32_MIN" if flat.dtype == np.int32 and v == -(1 << 31) else str(int(v)) for v in flat.tolist()]
    lines = [", ".join(items[i : i + _PER_LINE]) for i in range(0, len(items), _PER_LINE)]
    body = ",\n    ".join(lines)
    return f"static const {c_type(str(flat.dtype))} {name}[{max(1, len(items))}] = {{\n    {body}}};"


def _constants(program: Program) -> tuple[list[str], list[str], int]:
    """Return the name of each constant, the definitions (each content once), and their size in bytes."""
    known: dict[tuple, str] = {}
    names, definitions, nbytes = [], [], 0
    for array in program.constants:
        key = (str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest())
        if key not in known:
            known[key] = f"constant_{len(known)}"
            definitions.append(_array(array, known[key]))
            nbytes += array.nbytes
        names.append(known[key])
    return names, definitions, nbytes


def _calls(program: Program, kernels: Mapping[str, LoweredKernel], functions: Mapping[str, str], arena, names: Sequence[str], ins, outs, origins) -> list[str]:
    lines = []
    for step, call in enumerate(program.calls):
        kernel = kernels[call.kernel]
        pointers = kernel.module[kernel.symbol].params
        arguments = []
        for buffer, pointer in zip((*call.reads, *call.writes), pointers):
            kind = c_type(str(pointer.ty.element_type.dtype))
            const = "const " if buffer in call.reads else ""
            arguments.append(_address(buffer, f"{const}{kind} *", arena, names, ins, outs))
        for number, pointer in enumerate(pointers[len(arguments) :]):
            arguments.append(f"({c_type(str(pointer.ty.element_type.dtype))} *)(void *)(w + {arena.offsets[(step, number)]})")
        origin = "; ".join(dict.fromkeys(origins[name] for name in call.results if name in origins))
        lines += [f"/* {c_comment(origin)} */"] if origin else []
        lines.append(f"{functions[call.kernel]}({', '.join(arguments)});")
    for source, index in program.copies:
        lines.append(f"memcpy({outs[index]}, {_address(source, 'const void *', arena, names, ins, outs)}, {source.nbytes});")
    return lines


def _address(buffer: Buffer, pointer: str, arena, names: Sequence[str], ins: Sequence[str], outs: Sequence[str]) -> str:
    if buffer.kind == "input":
        return f"({pointer}){ins[buffer.index]}"
    if buffer.kind == "output":
        return f"({pointer}){outs[buffer.index]}"
    if buffer.kind == "constant":
        return f"({pointer}){names[buffer.index]}"
    return f"({pointer})(const void *)(w + {arena.offsets[buffer]})" if pointer.startswith("const") else f"({pointer})(void *)(w + {arena.offsets[buffer]})"


def _functions(program: Program, lowered: tvm.IRModule, origins: Mapping[str, str]) -> tuple[dict[str, LoweredKernel], dict[str, str], list[str]]:
    """Return kernels, C names and texts of the kernels that a program calls, each with a comment that names the layers it computes."""
    target = tvm.target.Target({"kind": "c"})
    first: dict[str, object] = {}
    layers: dict[str, list[str]] = {}
    for call in program.calls:
        first.setdefault(call.kernel, call)
        layers.setdefault(call.kernel, []).extend(origins[name] for name in call.results if name in origins)
    hints = [f"layer_{number}_{(layers[name] or ['movement'])[0].split()[0].lower()}" for number, name in enumerate(first)]
    functions = dict(zip(first, c_identifiers(hints), strict=True))
    kernels, texts = {}, []
    for name, call in first.items():
        kernels[name] = lower_kernel(lowered[name], name, target, C_STACK_BYTES)
        text = print_function(kernels[name], functions[name], len(call.reads))
        where = "; ".join(dict.fromkeys(layers[name])) or "moves data between layers"
        texts.append(f"/* {c_comment(where)} */\n{text}")
    return kernels, functions, texts


def _compile(source: Path, variant: Variant) -> None:
    """Put an object file in the place of a C file."""
    compiler = f"{bare_metal_prefix(variant.tvm_target['mtriple'])}gcc"
    if shutil.which(compiler) is None:
        raise ToolchainError(f"{compiler} is not installed; an object file for {variant.name} needs it. `--format c` does not: it writes the C to compile.")
    libc = ["--specs=picolibc.specs"] if compiler.startswith("riscv") else []
    options = [*variant.c_options, *libc, "-std=c99", "-O2", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections"]
    done = subprocess.run([compiler, *options, "-c", source.name, "-o", f"{source.stem}.o"], cwd=source.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolchainError(f"{compiler} cannot compile the generated C: {done.stderr.strip()[-800:]}")
    source.unlink()


def emit_c(
    lowered: tvm.IRModule,
    *,
    name: str,
    target: Target,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    origins: Mapping[str, str],
    metadata: Mapping,
    out: Path,
    as_object: bool = False,
) -> dict:
    """Write NAME.c, NAME.h and metadata.json.

    Parameters
    ----------
    lowered : tvm.IRModule
        ``main`` of kernel calls only, and scalar PrimFuncs.
    name : str
        C identifier that prefixes all public names.
    target : Target
        Of one variant that `is_source`.
    inputs, outputs : sequence of TensorSpec
    origins : mapping of str to str
        Relax variable to the ONNX node that its value comes from.
    metadata : mapping
        What else to keep, as JSON, under ``model``.
    out : Path
        Folder to write; made if there is none, replaced if it holds an earlier output.
    as_object : bool
        Write NAME.o, compiled for the target, instead of NAME.c.

    Returns
    -------
    dict
        The content of metadata.json.

    Raises
    ------
    OutputError
        The folder holds other content or cannot be written.
    UnsupportedOperator
        A kernel has no form in C.
    ToolchainError
        There is no compiler for the target, or it failed.
    """
    variant = target.variants[0]
    program = read_entries(lowered)["main"]
    inputs, outputs = checked_specs(inputs, program.inputs, "input"), checked_specs(outputs, program.outputs, "output")
    kernels, functions, texts = _functions(program, lowered, origins)
    arena = plan_program(program, kernels, C_ALIGNMENT)
    names, definitions, constant_bytes = _constants(program)
    c_inputs, c_outputs = c_tensors(inputs), c_tensors(outputs)
    ins, outs = [f"in->{t['member']}" for t in c_inputs], [f"out->{t['member']}" for t in c_outputs]
    text = "\n".join(texts)
    context = {
        **{"name": name, "macro": name.upper(), "version": __version__, "target": target.name},
        **{"inputs": c_inputs, "outputs": c_outputs, "constants": definitions, "functions": texts},
        "calls": _calls(program, kernels, functions, arena, names, ins, outs, origins),
        "preamble": [name for name in PREAMBLE if f"{name}(" in text],
        **{"workspace_bytes": arena.nbytes, "alignment": C_ALIGNMENT},
    }
    result = {
        **{"format": OBJECT_FORMAT if as_object else C_FORMAT, "format_version": 1, "name": name, "target": target.name, "c_options": list(variant.c_options)},
        **{"inputs": described(inputs), "outputs": described(outputs), "workspace_bytes": arena.nbytes, "workspace_align": C_ALIGNMENT},
        **{"workspace_lower_bound_bytes": arena.lower_bound, "constants_bytes": constant_bytes},
        "files": [f"{name}.{'o' if as_object else 'c'}", f"{name}.h", METADATA_FILE],
        "model": dict(metadata),
    }
    environment = template_environment()
    with output_folder(Path(out)) as staging:
        for template, file in (("model.c.j2", f"{name}.c"), ("model.h.j2", f"{name}.h")):
            (staging / file).write_text(environment.get_template(template).render(context), encoding="utf-8")
        if as_object:
            _compile(staging / f"{name}.c", variant)
        (staging / METADATA_FILE).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result

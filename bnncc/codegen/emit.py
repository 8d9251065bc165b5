"""Lowered modules to a folder with a shared library, its header and its metadata."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import tvm

from bnncc import __version__
from bnncc.codegen.arena import ALIGNMENT, Arena, Lifetime, plan_arena
from bnncc.codegen.constants import ConstantPool
from bnncc.codegen.kernels import CompiledKernel, KernelRequest, Progress, compile_kernels
from bnncc.codegen.link import link_library
from bnncc.codegen.lower_tir import LoweredKernel
from bnncc.codegen.names import c_identifier
from bnncc.codegen.output import FORMAT, METADATA_FILE, OBJECT_FORMAT, output_folder
from bnncc.codegen.program import Program, read_entries
from bnncc.codegen.signature import checked_specs, described
from bnncc.codegen.source import Body, entry_symbols, features_of, thread_bytes, threads_words, write_sources
from bnncc.codegen.system import find_system
from bnncc.errors import InternalError
from bnncc.targets import Target

__all__ = ["emit_library", "plan_program"]

FORMAT_VERSION = 1


def _compile_all(
    lowered: Mapping[str, tvm.IRModule], programs: Mapping[str, Mapping[str, Program]], target: Target, progress: Progress | None
) -> dict[str, dict[str, CompiledKernel]]:
    """Compile the kernels that the programs call; return them by variant and name."""
    wanted = []
    for variant in target.variants:
        names = dict.fromkeys(call.kernel for program in programs[variant.name].values() for call in program.calls)
        wanted += [(variant, name) for name in names]
    requests = [KernelRequest(f"{name} ({variant.name})", lowered[variant.name][name], variant.tvm_target) for variant, name in wanted]
    objects = compile_kernels(requests, progress)
    kernels: dict[str, dict[str, CompiledKernel]] = {variant.name: {} for variant in target.variants}
    for (variant, name), kernel in zip(wanted, objects, strict=True):
        kernels[variant.name][name] = kernel
    return kernels


def plan_program(program: Program, kernels: Mapping[str, CompiledKernel | LoweredKernel], alignment: int = ALIGNMENT) -> Arena:
    """Plan the arena of a program: its intermediate tensors by `Buffer`, a kernel's scratch by (step, number)."""
    spans: dict = {}
    scratch = []
    for step, call in enumerate(program.calls):
        for buffer in (*call.writes, *call.reads):
            if buffer.kind == "temp":
                spans.setdefault(buffer, [step, step])[1] = step
        scratch += [Lifetime((step, number), nbytes, step, step, alignment) for number, nbytes in enumerate(kernels[call.kernel].scratch)]
    for source, _ in program.copies:
        if source.kind == "temp":
            spans[source][1] = len(program.calls)
    return plan_arena([*(Lifetime(buffer, buffer.nbytes, first, last, alignment) for buffer, (first, last) in spans.items()), *scratch])


def _plan_entries(
    programs: Mapping[str, Mapping[str, Program]], kernels: Mapping[str, Mapping[str, CompiledKernel]], pool: ConstantPool
) -> dict[str, dict[str, Body]]:
    """Return the planned bodies by entry and variant."""
    entries: dict[str, dict[str, Body]] = {}
    for variant, by_entry in programs.items():
        for entry, program in by_entry.items():
            offsets = [pool.add(array) for array in program.constants]
            entries.setdefault(entry, {})[variant] = Body(program, plan_program(program, kernels[variant]), kernels[variant], offsets)
    for entry, bodies in entries.items():
        signatures = {(tuple(body.program.inputs), tuple(body.program.outputs)) for body in bodies.values()}
        if len(bodies) != len(programs) or len(signatures) != 1:
            raise InternalError(f"entry {entry} is not the same in all variants ({', '.join(programs)}): it needs one signature")
    return entries


def _signature(tensors: Sequence[tuple[tuple[int, ...], str]]) -> list[dict]:
    return [{"shape": list(shape), "dtype": dtype} for shape, dtype in tensors]


def _arenas(entries: Mapping[str, Mapping[str, Body]], variant: str) -> dict:
    return {
        entry: {"arena_bytes": bodies[variant].arena.nbytes, "lower_bound_bytes": bodies[variant].arena.lower_bound}
        for entry, bodies in entries.items()
    }


def emit_library(
    lowered: Mapping[str, tvm.IRModule],
    *,
    name: str,
    target: Target,
    inputs: Sequence,
    outputs: Sequence,
    metadata: Mapping,
    out: Path,
    threads: int = 1,
    as_object: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Write a shared library, its header and metadata.json.

    Parameters
    ----------
    lowered : mapping of str to tvm.IRModule
        By variant name: Relax functions of kernel calls only, ``main`` among them, and scheduled PrimFuncs.
    name : str
        Of the model; made an identifier of C if it is none.
    target : Target
        One module is expected for each of its variants.
    inputs, outputs : sequence of TensorSpec
        Of ``main``, or anything with name, shape and dtype.
    metadata : mapping
        What else to keep, as JSON, under ``model``.
    out : Path
        Folder to write; made if there is none, replaced if it holds an earlier output.
    threads : int
        How many may share a call.
    as_object : bool
        Whether to write an object file instead of a shared library.
    progress : callable, optional
        Called as ``progress(done, total)`` as kernels are compiled.

    Returns
    -------
    dict
        The content of metadata.json.

    Raises
    ------
    OutputError
        The folder holds other content or cannot be written.
    ToolchainError
        There is no C compiler, or it failed.
    InternalError
        The modules break the contract above.
    """
    name = c_identifier(name)
    if set(lowered) != {variant.name for variant in target.variants}:
        raise InternalError(
            f"target {target.name} has the variants {[v.name for v in target.variants]}, but modules came for {sorted(lowered)}"
        )
    with output_folder(Path(out)) as staging:
        programs = {variant.name: read_entries(lowered[variant.name]) for variant in target.variants}
        main = programs[target.variants[0].name]["main"]
        inputs, outputs = checked_specs(inputs, main.inputs, "input"), checked_specs(outputs, main.outputs, "output")
        kernels = _compile_all(lowered, programs, target, progress)
        pool = ConstantPool()
        entries = _plan_entries(programs, kernels, pool)
        workspace = {entry: max(body.arena.nbytes for body in bodies.values()) for entry, bodies in entries.items()}
        symbols = entry_symbols(name, list(entries))
        triple = target.variants[0].tvm_target["mtriple"]
        library = staging / (f"{name}.o" if as_object else find_system(triple).library.format(name))
        with tempfile.TemporaryDirectory(prefix="bnncc-") as temporary:
            folder = Path(temporary)
            sources, exports = write_sources(folder, name, target, inputs, outputs, entries, pool.tobytes(), threads)
            objects = {}
            for variant in target.variants:  # the least variant first: of TVM's weak symbols, the linker keeps the first definition
                for kernel in kernels[variant.name].values():
                    objects.setdefault(kernel.symbol, folder / f"{kernel.symbol}.o").write_bytes(kernel.content)
            link_library(sources, list(objects.values()), exports, library, folder, triple, threads > 1, as_object)
            (staging / f"{name}.h").write_bytes((folder / f"{name}.h").read_bytes())
        content = library.read_bytes()
        result = {
            "format": OBJECT_FORMAT if as_object else FORMAT,
            "format_version": FORMAT_VERSION,
            "bnncc_version": __version__,
            "name": name,
            "target": target.name,
            "triple": triple,
            "note": find_system(triple).note,
            "features": features_of(target.variants),
            "variants": [
                {
                    "name": v.name,
                    "cpu_features": list(v.cpu_features),
                    "tvm_target": v.tvm_target,
                    "entries": _arenas(entries, v.name),
                    "steps": [call.kernel for call in programs[v.name]["main"].calls],
                    "step_constants": [sum(b.nbytes for b in call.reads if b.kind == "constant") for call in programs[v.name]["main"].calls],
                }
                for v in target.variants
            ],
            "inputs": described(inputs),
            "outputs": described(outputs),
            "entries": {
                entry: {
                    "symbol": symbols[entry],
                    "workspace_bytes": workspace[entry],
                    "inputs": _signature(next(iter(bodies.values())).program.inputs),
                    "outputs": _signature(next(iter(bodies.values())).program.outputs),
                }
                for entry, bodies in entries.items()
            },
            "workspace_bytes": workspace["main"],
            "workspace_align": ALIGNMENT,
            "threads": {"most": threads, "bytes": 8 * threads_words(threads), "workspace_bytes": thread_bytes(entries["main"])},
            "constants_bytes": pool.nbytes,
            "library_bytes": len(content),
            "library_sha256": hashlib.sha256(content).hexdigest(),
            "files": [library.name, *sorted(file.name for file in staging.iterdir() if file != library), METADATA_FILE],
            "kernels": [
                {"symbol": kernel.symbol, "name": kernel_name, "variant": variant, "parallel": kernel.parallel}
                for variant, by_name in kernels.items()
                for kernel_name, kernel in by_name.items()
            ],
            "model": dict(metadata),
        }
        (staging / METADATA_FILE).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result

"""The C side of a library: entry file, header, constants and export list, from templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnncc import __version__
from bnncc.codegen.arena import ALIGNMENT, Arena
from bnncc.codegen.c_text import c_comment, c_tensors, template_environment
from bnncc.codegen.kernels import CompiledKernel
from bnncc.codegen.names import c_identifiers
from bnncc.codegen.program import Buffer, Call, Program
from bnncc.codegen.system import find_system
from bnncc.errors import InternalError
from bnncc.spec import TensorSpec
from bnncc.targets import Target, Variant

__all__ = ["CONSTANTS_FILE", "Body", "entry_symbols", "features_of", "thread_bytes", "threads_words", "write_sources"]

CONSTANTS_FILE = "constants.bin"


@dataclass(frozen=True)
class Body:
    """One entry of one variant, planned: its straight line, arena, kernels by PrimFunc name, and constants' offsets in the blob."""

    program: Program
    arena: Arena
    kernels: Mapping[str, CompiledKernel]
    constants: Sequence[int]


def entry_symbols(name: str, entries: Sequence[str]) -> dict[str, str]:
    """Return the C function of each entry: ``main`` is the public one."""
    unique = dict(zip(entries, c_identifiers(entries), strict=True))
    return {entry: f"{name}_run" if entry == "main" else f"{name}_entry_{unique[entry]}_run" for entry in entries}


def features_of(variants: Sequence[Variant]) -> list[str]:
    """Return the processor features that any of the variants needs; the position of one is its bit in the generated check."""
    return list(dict.fromkeys(feature for variant in variants for feature in variant.cpu_features))


def _address(buffer: Buffer, inputs: Sequence[str], outputs: Sequence[str], body: Body, name: str) -> str:
    if buffer.kind == "input":
        return inputs[buffer.index]
    if buffer.kind == "output":
        return outputs[buffer.index]
    if buffer.kind == "constant":
        return f"{name}_constants + {body.constants[buffer.index]}"
    return f"w + {body.arena.offsets[buffer]}"


def _call(body: Body, step: int, inputs: Sequence[str], outputs: Sequence[str], name: str, part: tuple[str, str], shared: bool) -> str:
    """Return the C statement of a step, for a `part` of it where its kernel is parallel; `shared` where any thread may run it."""
    call = body.program.calls[step]
    kernel = body.kernels[call.kernel]
    arguments = [_address(buffer, inputs, outputs, body, name) for buffer in (*call.reads, *call.writes)]
    for number, place in enumerate(thread_scratch(kernel)[0]):
        first = f"w + {body.arena.offsets[(step, number)]}"
        arguments.append(f"thread ? own + {place} : {first}" if shared else first)
    return f"{kernel.symbol}({', '.join([*arguments, *(part if kernel.parallel else ())])}); /* {c_comment(call.kernel)} */"


def _lines(body: Body, inputs: Sequence[str], outputs: Sequence[str], name: str, observed: bool, crew: bool) -> list[str]:
    """Return the C statements of a body; where it is `observed`, ``after`` follows each step; a `crew` shares the steps whose kernels are parallel."""
    lines = []
    for step, call in enumerate(body.program.calls):
        shared = crew and body.kernels[call.kernel].parallel
        lines += [f"if (crew) share(crew, {step}); else"] if shared else []
        lines.append(_call(body, step, inputs, outputs, name, ("0", "1"), False))
        if observed:
            lines.append(f"if (after) after(context, {step});")
    for source, index in body.program.copies:
        lines.append(f"memcpy({outputs[index]}, {_address(source, inputs, outputs, body, name)}, {source.nbytes});")
    return lines


def _steps(body: Body, inputs: Sequence[str], outputs: Sequence[str], name: str) -> list[str]:
    """Return the cases of the switch over the steps that threads share."""
    shared = (step for step, call in enumerate(body.program.calls) if body.kernels[call.kernel].parallel)
    return [f"case {step}: {_call(body, step, inputs, outputs, name, ('part', 'parts'), True)} break;" for step in shared]


def threads_words(threads: int) -> int:
    """Return the size of the structure of threads in words of 64 bits; the C compiler checks that it suffices."""
    return 36 + 2 * threads


def thread_scratch(kernel: CompiledKernel) -> tuple[list[int], int]:
    """Return where the scratch buffers of a kernel lie in the scratch of a thread, and the size of all in bytes."""
    offsets, at = [], 0
    for nbytes in kernel.scratch:
        offsets.append(at)
        at += -(-nbytes // ALIGNMENT) * ALIGNMENT
    return offsets, at


def thread_bytes(bodies: Mapping[str, Body]) -> int:
    """Return the scratch in bytes that a further thread needs for the kernels that it shares."""
    kernels = (body.kernels[call.kernel] for body in bodies.values() for call in body.program.calls)
    return max((thread_scratch(kernel)[1] for kernel in kernels if kernel.parallel), default=0)


def _parameters(call: Call, kernel: CompiledKernel) -> str:
    pointers = ["const void *"] * len(call.reads) + ["void *"] * (len(call.writes) + len(kernel.scratch))
    return ", ".join([*pointers, *(["int32_t"] * 2 if kernel.parallel else [])])


def _entry(name: str, entry: str, symbol: str, bodies: Mapping[str, Body], inputs: list[dict], outputs: list[dict], threads: int) -> dict:
    """Return what the template needs of one entry: ``main`` takes the public structures, the others arrays of pointers."""
    crew = threads > 1 and entry == "main"
    if entry == "main":
        parameters = f"const struct {name}_inputs *in, struct {name}_outputs *out"
        sources, sinks = [f"in->{t['member']}" for t in inputs], [f"out->{t['member']}" for t in outputs]
    else:
        parameters = "const void *const *in, void *const *out"
        program = next(iter(bodies.values())).program
        sources, sinks = [f"in[{i}]" for i in range(len(program.inputs))], [f"out[{i}]" for i in range(len(program.outputs))]
    return {
        "function": symbol,
        "is_main": entry == "main",
        "crew": crew,
        "workspace_bytes": max(body.arena.nbytes for body in bodies.values()),
        "parameters": parameters,
        "members": sources + sinks,
        "bodies": [
            {
                "function": f"{symbol}_{variant}",
                "lines": _lines(body, sources, sinks, name, entry == "main", crew),
                "steps": _steps(body, sources, sinks, name) if crew else [],
            }
            for variant, body in bodies.items()
        ],
    }


def is_parallel(body: Body) -> bool:
    """Tell whether threads can share any step."""
    return any(body.kernels[call.kernel].parallel for call in body.program.calls)


def _kernels(entries: Mapping[str, Mapping[str, Body]]) -> list[dict]:
    """Return each kernel once, with its prototype."""
    found: dict[str, dict] = {}
    for bodies in entries.values():
        for variant, body in bodies.items():
            for call in body.program.calls:
                kernel = body.kernels[call.kernel]
                row = {
                    "symbol": kernel.symbol,
                    "name": c_comment(call.kernel),
                    "variant": variant,
                    "parameters": _parameters(call, kernel),
                }
                found.setdefault(kernel.symbol, row)
    return list(found.values())


def write_sources(
    folder: Path,
    name: str,
    target: Target,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    entries: Mapping[str, Mapping[str, Body]],
    constants: bytes,
    threads: int = 1,
) -> tuple[list[Path], Path]:
    """Write header, entry file, constants and export list of a library.

    Parameters
    ----------
    folder : Path
        Where to.
    name : str
        Identifier that all public names start with.
    target : Target
        With the variants, in order.
    inputs, outputs : sequence of TensorSpec
        Of ``main``.
    entries : mapping of str to mapping of str to Body
        By entry, then by variant.
    constants : bytes
        The blob.
    threads : int
        How many may share a call; for one, the library knows nothing of threads.

    Returns
    -------
    (list of Path, Path)
        The files to compile and the export list.

    Raises
    ------
    InternalError
        The target's architecture or a feature has no template.
    """
    environment = template_environment()
    architecture = target.variants[0].tvm_target["mtriple"].partition("-")[0]
    dispatch = f"dispatch_{architecture}.c.j2"
    if dispatch not in environment.list_templates():
        raise InternalError(f"target {target.name}: there is no dispatch template for the architecture {architecture}")
    features = features_of(target.variants)
    bits = {feature: index for index, feature in enumerate(features)}
    c_inputs, c_outputs = c_tensors(inputs), c_tensors(outputs)
    symbols = entry_symbols(name, list(entries))
    context = {
        "name": name,
        "macro": name.upper(),
        "version": __version__,
        "target": target.name,
        "dispatch": dispatch,
        "system": find_system(target.variants[0].tvm_target["mtriple"]),
        "features": features,
        "variants": [
            {"name": v.name, "cpu_features": v.cpu_features, "mask": f"UINT64_C({sum(1 << bits[f] for f in set(v.cpu_features)):#x})"} for v in target.variants
        ],
        "inputs": c_inputs,
        "outputs": c_outputs,
        "entries": [_entry(name, entry, symbols[entry], bodies, c_inputs, c_outputs, threads) for entry, bodies in entries.items()],
        "kernels": _kernels(entries),
        "workspace_bytes": max(body.arena.nbytes for body in entries["main"].values()),
        "alignment": ALIGNMENT,
        "threads": threads,
        "thread_bytes": thread_bytes(entries["main"]),
        "threads_words": threads_words(threads),
        "parallel": any(map(is_parallel, entries["main"].values())),
        "constants_bytes": len(constants),
        "constants_file": CONSTANTS_FILE,
        "exports": [
            *symbols.values(),
            *(f"{name}_threads_{what}" for what in ("start", "run", "profile", "stop") if threads > 1),
            f"{name}_profile",
            f"{name}_error",
            f"{name}_variant",
            f"{name}_has_feature",
        ],
    }

    def render(template: str, file: str) -> Path:
        path = folder / file
        path.write_text(environment.get_template(template).render(context), encoding="utf-8")
        return path

    render("library.h.j2", f"{name}.h")
    sources = [render("library.c.j2", "library.c")]
    if constants:
        (folder / CONSTANTS_FILE).write_bytes(constants)
        sources.append(render("constants.S.j2", "constants.S"))
    return sources, render("exports.map.j2", "exports.map")

"""compile(): the one module that joins frontend, passes, schedules and code generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import onnx
import tvm

from bnncc.codegen import emit_c, emit_library
from bnncc.codegen.names import c_identifier
from bnncc.errors import InputError, TargetError
from bnncc.frontend import ImportedModel, import_onnx
from bnncc.passes.assignment import Measured
from bnncc.passes.context import SIGN_ZERO, LayerRow, Options, PassContext, TensorView
from bnncc.passes.fixed_point import FIXED_LAYERS
from bnncc.passes.lower_groups import lower_groups
from bnncc.passes.pipeline import run_pipeline
from bnncc.passes.plane_costs import FEWEST_BYTES, SCALARS, SUMS
from bnncc.passes.step_work import layers_of, step_work
from bnncc.spec import ByteInput
from bnncc.targets import OPTIMIZE_FOR, Target, Variant, find_target
from bnncc.tuning.best import Tuned
from bnncc.tuning.database import Database, database_directory
from bnncc.tuning.shipped import Shipped
from bnncc.tuning.target_key import target_key

__all__ = ["compile", "CompiledArtifact", "Report", "options_for", "prepare"]

MOST_THREADS = 64
"""That a call can be shared by."""

Progress = Callable[[str, int, int], None]


@dataclass
class Report:
    """What the compiler decided, layer by layer."""

    layers: list[LayerRow]
    warnings: list[str]
    sign_zeros: dict[str, int] = field(default_factory=dict)


@dataclass
class CompiledArtifact:
    """A model compiled for a target, not yet written.

    Parameters
    ----------
    name : str
        A C identifier; names the files and prefixes the symbols.
    target : Target
    model : ImportedModel
    fused : IRModule
        The groups, the same for every variant of the target.
    context : PassContext
    output_format : str
        One of the target's formats; its first by default.
    threads : int
        How many may share a call.
    database : Database, optional
        Records of tuned kernels to choose by.
    byte_inputs : mapping of str to ByteInput
        As of `compile`.
    """

    name: str
    target: Target
    model: ImportedModel
    fused: tvm.IRModule
    context: PassContext
    progress: Progress | None = None
    output_format: str = ""
    threads: int = 1
    database: Database | None = None
    byte_inputs: Mapping[str, ByteInput] = field(default_factory=dict)

    @property
    def report(self) -> Report:
        """Layers, warnings, and where a Sign of 0 matters."""
        return Report(self.context.layers, self.warnings, self.context.sign_zeros)

    @property
    def warnings(self) -> list[str]:
        """What a user should know, from import to packing."""
        return [*self.model.warnings, *self.context.warnings]

    def _origins(self) -> dict[str, str]:
        """Return the ONNX node that each variable's value comes from, for comments."""
        known = {var: f"{node.op_type} {node.name}" for var, node in self.context.nodes.items()}
        outputs = {node.output: f"{node.op_type} {node.name}" for node in self.context.nodes.values()}
        origins = {**{var: outputs[view.onnx] for var, view in self.context.tensors.items() if view.onnx in outputs}, **known}
        for var, layers in layers_of(self.fused, self.context).items():
            named = [f"{layer.op} {layer.node}" for layer in layers]
            origins[var] = "; ".join(dict.fromkeys([*named, *([origins[var]] if var in origins else [])]))
        return origins

    def lower(self, entries: tuple[str, ...] = ("main",)) -> tuple[dict[str, tvm.IRModule], dict[str, dict[str, str]]]:
        """Generate the kernels of every variant; returns the lowered modules and what each kernel is, by variant name."""
        lowered, notes = {}, {}
        for i, variant in enumerate(self.target.variants):
            lowered[variant.name], notes[variant.name] = self.lower_variant(variant, entries)
            if self.progress is not None:
                self.progress("schedules", i + 1, len(self.target.variants))
        return lowered, notes

    def lower_variant(self, variant: Variant, entries: tuple[str, ...] = ("main",)) -> tuple[tvm.IRModule, dict[str, str]]:
        """Generate the kernels of one variant, tuned ones where there are records; returns the lowered module and what each kernel is."""
        tuned = Tuned(self.database.records(target_key(variant)), variant, Shipped(variant), self.threads) if self.database is not None else None
        found = lower_groups(self.fused, variant, entries, tuned and tuned.decide)
        if tuned is not None and tuned.stale:
            self.context.warn(
                f"{tuned.stale} kernels for {variant.name} have tuning records in {self.database.directory} that were made for other versions of "
                "them, which are not applied. Run `bnncc tune` again."
            )
        return found

    def save(self, folder: str | Path, entries: tuple[str, ...] = ("main",)) -> dict:
        """Write library, header and metadata into `folder`.

        Returns
        -------
        dict
            The metadata.

        Raises
        ------
        OutputError
            The folder holds other content or cannot be written.
        ToolchainError
            There is no C compiler, or it failed.
        """
        lowered, notes = self.lower(entries)
        step = (lambda done, total: self.progress("kernels", done, total)) if self.progress is not None else None
        metadata = {
            "layers": [asdict(row) for row in self.context.layers],
            "warnings": self.warnings,
            "byte_inputs": {name: asdict(meaning) for name, meaning in self.byte_inputs.items()},
            "sign_zero": self.context.options.sign_zero,
            "optimize_for": self.target.variants[0].optimize_for,
            "kernel_notes": notes,
            "assignment": list(self.context.assignment),
            "steps": [asdict(step) for step in step_work(self.fused, self.context)],
        }
        said = {"name": self.name, "target": self.target, "inputs": self.model.inputs, "outputs": self.model.outputs, "metadata": metadata}
        said |= {"out": Path(folder), "as_object": self.output_format == "object"}
        if self.target.variants[0].is_source:
            return emit_c(lowered[self.target.variants[0].name], origins=self._origins(), **said)
        return emit_library(lowered, threads=self.threads, progress=step, **said)


def prepare(
    model: str | Path | onnx.ModelProto,
    options: Options,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    byte_inputs: Mapping[str, ByteInput] | None = None,
    dump_ir: Path | None = None,
    progress: Progress | None = None,
    measured: Measured | None = None,
) -> tuple[ImportedModel, tvm.IRModule, PassContext]:
    """Import a model and run all passes up to the groups, with layouts by measured times where any are given.

    Raises
    ------
    ModelError
        The model is unsound or holds something that is not supported.
    """
    imported = import_onnx(model, dict(shapes or {}), byte_inputs)
    views = {var: TensorView(name) for var, name in imported.tensors.items()}
    ctx = PassContext(options, views, imported.nodes, measured=measured)
    fused = run_pipeline(imported.mod, ctx, dump_ir, progress)
    return imported, fused, ctx


def options_for(variant: Variant, sign_zero: str = "exact", fixed_layers: Sequence[str] = ()) -> Options:
    """Return what the passes have to know of the processor that a program is for."""
    general = {"sign_zero": sign_zero, "word_bits": variant.word_bits, "has_float_unit": variant.has_float_unit, "fixed_layers": tuple(fixed_layers)}
    if not variant.is_scalar:
        return Options(**general, sums=SUMS if "pmaddwd" in variant.instructions else None)
    return Options(
        **general,
        stage_images=False,  # sliced kernels read planes of pixels out of a padded image
        pool_words=True,  # one thread, and little memory
        has_doubles=False,
        widens_codes=False,  # without pairs of products bytes are as good as int16
        sums_codes=True,
        planes=FEWEST_BYTES if variant.optimize_for == "flash" else SCALARS,
    )


def compile(
    model: str | Path | onnx.ModelProto,
    *,
    target: str = "x86-64",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    byte_inputs: Mapping[str, ByteInput] | None = None,
    fixed_layers: Sequence[str] = (),
    name: str | None = None,
    sign_zero: str = "exact",
    output_format: str | None = None,
    optimize_for: str = "speed",
    threads: int = 1,
    database: str | Path | bool = True,
    dump_ir: str | Path | None = None,
    progress: Progress | None = None,
) -> CompiledArtifact:
    """Compile an ONNX model.

    Parameters
    ----------
    model : path or ModelProto
    target : str
        A name that ``bnncc targets`` lists.
    shapes : mapping of str to tuple of int, optional
        Input name to shape, where the model leaves dimensions open.
    byte_inputs : mapping of str to ByteInput, optional
        Inputs, float32 in the model, that are to take bytes: what these stand for. The name ``""`` is the only input.
    fixed_layers : sequence of str
        Which of ``first`` and ``last`` are rounded to fixed point where they are not exact on integers; `verify` counts what differs then.
    name : str, optional
        Of the library; by default the file's.
    sign_zero : {"exact", "plus", "minus"}
        What a plain Sign of exactly 0 becomes.
    output_format : str, optional
        What `save` writes: ``so`` (a shared library), ``object`` (an object file to link) or ``c`` (C99 for any compiler; without
        the target's own vectors, but for microcontrollers); by default what the target makes.
    optimize_for : {"speed", "flash", "ram"}
        What kernels in C are chosen for; others know speed only.
    threads : int
        How many may share a call. A library for more than one needs pthread_create, and has functions that start and end threads of its caller.
    database : path or bool
        Folder of tuning records; True stands for the user's own. Where these say nothing of a layer, those that come with the package decide. False stands for
        none at all.
    dump_ir : path, optional
        Folder for the module after each pass.
    progress : callable, optional
        ``progress(stage, done, total)``.

    Returns
    -------
    CompiledArtifact
        Call ``save(folder)`` to write it.

    Raises
    ------
    ModelError, TargetError
    InputError
        `sign_zero`, `optimize_for` or `threads` is none of these, or `byte_inputs` names no input of float32.
    """
    if sign_zero not in SIGN_ZERO:
        raise InputError(f"sign_zero is {sign_zero!r}; it is one of {', '.join(SIGN_ZERO)}.")
    if unknown := [place for place in fixed_layers if place not in FIXED_LAYERS]:
        raise InputError(f"fixed_layers holds {unknown[0]!r}; the first and the last layer can be fixed point.")
    chosen = find_target(target)
    if output_format == "c":
        chosen = chosen.as_source()
    if not 1 <= threads <= MOST_THREADS or (threads > 1 and not chosen.has_threads):
        raise InputError(f"threads is {threads}: give 1 to {MOST_THREADS}, and 1 where the output is C or for another system than Linux.")
    if output_format is not None and output_format not in chosen.formats:
        raise TargetError(
            f"The target {chosen.name} is written as {' or '.join(chosen.formats)}, not as {output_format}: shared libraries are for processors with an "
            "operating system that loads them. `bnncc targets` lists these too."
        )
    if optimize_for not in OPTIMIZE_FOR:
        raise InputError(f"optimize_for is {optimize_for!r}; it is one of {', '.join(OPTIMIZE_FOR)}.")
    if optimize_for != "speed" and not chosen.variants[0].is_source:
        raise TargetError(
            f"--optimize-for {optimize_for} chooses among kernels in C, of microcontrollers; a library for {chosen.name} has kernels for speed only."
        )
    chosen = chosen.optimized_for(optimize_for)
    records = Database(database_directory() if database is True else Path(database)) if database is not False else None
    stem = Path(model).name.split(".onnx")[0] if isinstance(model, str | Path) else (model.graph.name or "model")
    # groups are the same for all variants of a target, so that the times of one do not decide them
    single = records is not None and len(chosen.variants) == 1
    tuned = Tuned(records.records(target_key(chosen.variants[0])), chosen.variants[0], threads=threads) if single else None
    imported, fused, ctx = prepare(
        model,
        options_for(chosen.variants[0], sign_zero, fixed_layers),
        shapes=shapes,
        byte_inputs=byte_inputs,
        dump_ir=None if dump_ir is None else Path(dump_ir),
        progress=progress,
        measured=tuned.measured if tuned is not None and tuned.knows_any else None,
    )
    written = output_format or chosen.formats[0]
    return CompiledArtifact(c_identifier(name or stem), chosen, imported, fused, ctx, progress, written, threads, records, dict(byte_inputs or {}))

"""What the compiler makes of a model: layer by layer bits or float and why, then sizes, memory and what else runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import onnx
import tvm
from rich.console import Console

from bnncc.codegen.arena import ALIGNMENT
from bnncc.codegen.constants import ConstantPool
from bnncc.codegen.emit import plan_program
from bnncc.codegen.emit_c import C_ALIGNMENT, C_STACK_BYTES
from bnncc.codegen.lower_tir import STACK_BYTES, lower_kernel
from bnncc.codegen.program import Program, read_entries
from bnncc.compiler import CompiledArtifact, compile
from bnncc.passes.context import LayerRow
from bnncc.report.inspect_text import print_report
from bnncc.report.steps import FeatureMap, PackedMap, Step, feature_maps, packed_maps, steps_of
from bnncc.spec import ByteInput
from bnncc.targets import Variant

__all__ = ["InspectReport", "LayerEntry", "Memory", "inspect_model"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LayerEntry:
    """A convolution or dense layer.

    Parameters
    ----------
    node, op, output : str
        Name and operator of the ONNX node, and its output tensor.
    bits : bool
        Whether it runs on packed words.
    reason, detail : str
        Why it does or does not; kernel size and groups.
    in_shape, out_shape : tuple of int
        Channels last.
    macs : int
        Multiply-accumulates a run.
    weight_bytes, float_weight_bytes : int
        As compiled (of bits, the bits themselves) and as float32; 0 where the weights are computed at run time.
    integer : bool
        Whether it runs on small integers of more than one bit.
    """

    node: str
    op: str
    output: str
    bits: bool
    reason: str
    detail: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    macs: int
    weight_bytes: int
    float_weight_bytes: int
    integer: bool = False

    @classmethod
    def of(cls, row: LayerRow) -> LayerEntry:
        """Return a compiler's row with what its weights take as float32: each takes part in one product a pixel of the output."""
        weights = row.macs // max(1, int(np.prod(row.out_shape[:-1], dtype=np.int64))) if row.weight_bytes else 0
        known = ("node", "op", "output", "bits", "reason", "detail", "in_shape", "out_shape", "macs", "weight_bytes", "integer")
        return cls(**{name: getattr(row, name) for name in known}, float_weight_bytes=4 * weights)


@dataclass(frozen=True)
class Memory:
    """What a run needs beside its inputs and outputs, in bytes.

    Parameters
    ----------
    arena_bytes : int
        The workspace: all tensors between kernels and the kernels' scratch, as planned.
    lower_bound_bytes : int
        What any plan for this order of kernels needs.
    constants_bytes : int
        Weights, thresholds and tables as the library holds them, equal ones once.
    """

    arena_bytes: int
    lower_bound_bytes: int
    constants_bytes: int


@dataclass(frozen=True)
class InspectReport:
    """What `inspect_model` found.

    Attributes
    ----------
    name, target, variant : str
        The model, the target, and the variant that memory and kernels are told of: the best one.
    sign_zero : str
        What a plain Sign of 0 becomes.
    inputs, outputs : list of dict
        Name, shape and dtype.
    layers : list of LayerEntry
        In order of the model.
    memory : Memory
    packed : list of PackedMap
        Feature maps that live in words.
    maps : list of FeatureMap
        What lies in memory between kernels, of any type.
    steps : list of Step
        Kernel calls, in order of execution.
    sign_zeros : dict of str to int
        Tensor behind a plain Sign whose 0 reaches a binary layer, and its number of channels.
    warnings : list of str
    assignment : list of str
        Layouts that measured times decided otherwise than the rule.
    """

    name: str
    target: str
    variant: str
    sign_zero: str
    inputs: list[dict]
    outputs: list[dict]
    layers: list[LayerEntry]
    memory: Memory
    packed: list[PackedMap]
    maps: list[FeatureMap]
    steps: list[Step]
    sign_zeros: dict[str, int]
    warnings: list[str]
    assignment: list[str] = field(default_factory=list)

    @property
    def totals(self) -> dict[str, int | float]:
        """Layers, multiply-accumulates and weights, in all and on bits."""
        on_bits = [layer for layer in self.layers if layer.bits]
        macs, bit_macs = (sum(layer.macs for layer in layers) for layers in (self.layers, on_bits))
        return {
            "layers": len(self.layers),
            "bit_layers": len(on_bits),
            "macs": macs,
            "bit_macs": bit_macs,
            "bit_share_of_macs": bit_macs / macs if macs else 0.0,
            "weight_bytes": sum(layer.weight_bytes for layer in self.layers),
            "float_weight_bytes": sum(layer.float_weight_bytes for layer in self.layers),
        }

    @property
    def float_operators(self) -> dict[str, dict[str, int]]:
        """Operators other than the layers that compute on real numbers: how many of each and how many elements they make."""
        found: dict[str, dict[str, int]] = {}
        for step in self.steps:
            for operator in step.operators:
                if operator.is_float and not operator.is_layer:
                    row = found.setdefault(operator.name, {"count": 0, "elements": 0})
                    row["count"] += 1
                    row["elements"] += operator.elements
        return dict(sorted(found.items(), key=lambda item: -item[1]["elements"]))

    def to_json(self) -> dict:
        """Return everything as what JSON can hold; sizes in bytes."""
        return {**asdict(self), "totals": self.totals, "float_operators": self.float_operators}

    def to_text(self, console: Console) -> None:
        """Print the report for readers."""
        print_report(self, console)


def inspect_model(
    model: str | Path | onnx.ModelProto,
    *,
    target: str = "x86-64",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    byte_inputs: Mapping[str, ByteInput] | None = None,
    fixed_layers: Sequence[str] = (),
    sign_zero: str = "exact",
    optimize_for: str = "speed",
    database: str | Path | bool = True,
    progress: Progress | None = None,
) -> InspectReport:
    """Tell layer by layer what runs on bits and why the rest does not, without generating machine code.

    Parameters
    ----------
    model : path or ModelProto
    target : str
        A name that ``bnncc targets`` lists.
    shapes : mapping of str to tuple of int, optional
        Input name to shape, where the model leaves dimensions open.
    byte_inputs, fixed_layers
        As of `compile`.
    sign_zero : {"exact", "plus", "minus"}
    optimize_for : {"speed", "flash", "ram"}
    database : path or bool
        Tuning records, as of `compile`.
    progress : callable, optional
        ``progress(stage, done, total)``.

    Raises
    ------
    ModelError, TargetError
    """
    options = {"shapes": shapes, "byte_inputs": byte_inputs, "fixed_layers": fixed_layers, "sign_zero": sign_zero}
    options |= {"optimize_for": optimize_for, "database": database, "progress": progress}
    artifact = compile(model, target=target, **options)
    # the best variant alone is enough: all of them have the same groups
    chosen: Variant = artifact.target.variants[-1]
    lowered, notes = artifact.lower_variant(chosen)
    program = read_entries(lowered)["main"]
    return InspectReport(
        name=artifact.name,
        target=artifact.target.name,
        variant=chosen.name,
        sign_zero=sign_zero,
        inputs=_described(artifact.model.inputs),
        outputs=_described(artifact.model.outputs),
        layers=[LayerEntry.of(row) for row in artifact.context.layers],
        memory=_memory(lowered, program, chosen),
        packed=packed_maps(artifact.fused, artifact.context),
        maps=feature_maps(artifact.fused, artifact.context),
        steps=steps_of(artifact.fused, artifact.context, [(call.kernel, notes[call.kernel]) for call in program.calls]),
        sign_zeros=_sign_zeros(artifact),
        warnings=_unique(artifact),
        assignment=list(artifact.context.assignment),
    )


def _sign_zeros(artifact: CompiledArtifact) -> dict[str, int]:
    """Return channels by ONNX tensor: what was moved in front of a pool, or cut into slices, counts for the tensor whose name it keeps."""
    found: dict[str, int] = {}
    for name, channels in artifact.context.sign_zeros.items():
        whole = artifact.context.onnx_name(re.sub(r"(_slice(_\d+)?)?(_unpooled)?$", "", name))
        found[whole] = found.get(whole, 0) + channels
    return found


def _described(specs) -> list[dict]:
    return [{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in specs]


def _unique(artifact: CompiledArtifact) -> list[str]:
    return list(dict.fromkeys(artifact.warnings))


def _memory(lowered: tvm.IRModule, program: Program, variant: Variant) -> Memory:
    """Plan the workspace as `emit_library` will."""
    # TVM's target of C takes no triple; the stack is smaller there, and elements are aligned, not vectors
    target = tvm.target.Target({"kind": "c"} if variant.is_source else variant.tvm_target)
    stack, alignment = (C_STACK_BYTES, C_ALIGNMENT) if variant.is_source else (STACK_BYTES, ALIGNMENT)
    kernels = {name: lower_kernel(lowered[name], name, target, stack) for name in dict.fromkeys(call.kernel for call in program.calls)}
    arena, pool = plan_program(program, kernels, alignment), ConstantPool()
    for array in program.constants:
        pool.add(array)
    return Memory(arena.nbytes, arena.lower_bound, pool.nbytes)

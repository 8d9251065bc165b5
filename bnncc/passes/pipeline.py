"""The pipeline, one literal list by phase. An entry that needs its place says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tvm

from bnncc.passes.canonicalize_arithmetic import canonicalize_arithmetic
from bnncc.passes.canonicalize_layout import canonicalize_layout
from bnncc.passes.context import PassContext
from bnncc.passes.decide_sign_zero import decide_sign_zero
from bnncc.passes.fold_concat import fold_concat
from bnncc.passes.fold_logic import fold_logic
from bnncc.passes.fold_padding import fold_padding
from bnncc.passes.fold_pool import fold_pool
from bnncc.passes.fold_reshape import fold_reshape
from bnncc.passes.fold_slices import fold_slices
from bnncc.passes.fold_sums import fold_sums
from bnncc.passes.fold_take import fold_take
from bnncc.passes.fold_thresholds import fold_thresholds
from bnncc.passes.fuse_epilogue import fuse_epilogue
from bnncc.passes.lower_dequantize import lower_dequantize
from bnncc.passes.lower_integers import lower_integers
from bnncc.passes.lower_planes import lower_planes
from bnncc.passes.materialize_padding import materialize_padding
from bnncc.passes.narrow_doubles import narrow_doubles
from bnncc.passes.pack_bits import pack_bits
from bnncc.passes.pack_code_signs import pack_code_signs
from bnncc.passes.pack_signs import pack_signs
from bnncc.passes.recognise_binary import recognise_binary
from bnncc.passes.recognise_bytes import recognise_bytes
from bnncc.passes.recognise_logic import recognise_logic
from bnncc.passes.recognise_quantize import recognise_quantize
from bnncc.passes.sink_dequantize import sink_dequantize
from bnncc.passes.sum_signed_codes import sum_signed_codes
from bnncc.passes.tabulate_outputs import tabulate_outputs
from bnncc.passes.verify import verify_phase

__all__ = ["PIPELINE", "run_pipeline"]

Pass = Callable[[tvm.IRModule, PassContext], tvm.IRModule]

PIPELINE: tuple[tuple[str, tuple[Pass, ...]], ...] = (
    ("import", ()),  # what the frontend hands over is checked like any other phase
    (
        "recognise",
        (
            canonicalize_layout,  # first: channels are the last axis for everything after
            canonicalize_arithmetic,  # before quantizers are looked for: a residue hides the sign in front of it
            recognise_bytes,
            recognise_quantize,
            sink_dequantize,
            recognise_logic,
            sink_dequantize,  # what logic made two-valued can be moved, too
            recognise_quantize,  # a sign of a sum of signs, which is logic only once its own operands are codes
            recognise_logic,
            sink_dequantize,
            recognise_binary,
        ),
    ),
    (
        "fold",
        (
            fold_take,  # before pools and thresholds: a selection between accumulator and quantizer would end the chain
            fold_reshape,  # before thresholds, likewise
            fold_pool,
            fold_padding,
            fold_thresholds,
            fold_sums,
            decide_sign_zero,  # after thresholds: these prove many zeros impossible
            fold_logic,  # after all that rules zeros out
            fold_slices,  # before concatenations are joined into longer ones, of which the slices are only parts
            tabulate_outputs,
            narrow_doubles,  # of what neither thresholds nor tables took
            fold_concat,  # last: zeros are decided of whole tensors, and pools keep one quantizer in front
        ),
    ),
    (
        "pack",
        (
            pack_bits,
            pack_code_signs,
            lower_planes,
            sum_signed_codes,  # what planes did not take
            lower_integers,  # what nothing before took
            lower_dequantize,
            materialize_padding,
            pack_signs,  # what stays float, padded already
        ),
    ),
    ("fuse", (fuse_epilogue,)),
)


def run_pipeline(mod: tvm.IRModule, ctx: PassContext, dump_ir: Path | None = None, progress: Callable[[str, int, int], None] | None = None) -> tvm.IRModule:
    """Run all phases up to the groups that `lower_groups` takes.

    Parameters
    ----------
    mod : IRModule
        As imported.
    ctx : PassContext
    dump_ir : Path, optional
        Folder for the module after each pass, ``03_recognise_quantize.py``.
    progress : callable, optional
        Called as ``progress("passes", done, total)``.

    Raises
    ------
    InternalError
        A phase broke its contract.
    """
    done, total = 0, sum(len(passes) for _, passes in PIPELINE)
    if dump_ir is not None:
        _dump(mod, dump_ir, 0, "import")
    for phase, passes in PIPELINE:
        for run in passes:
            mod = run(mod, ctx)
            done += 1
            if dump_ir is not None:
                _dump(mod, dump_ir, done, run.__name__)
            if progress is not None:
                progress("passes", done, total)
        verify_phase(mod, phase)
    return mod


def _dump(mod, folder: Path, number: int, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:02d}_{name}.py").write_text(mod.script())

"""Binary layers alone: every formulation beside its limit on this machine, and beside onnxruntime in float32, in turns.

    python benchmarks/kernels.py > docs/X86_KERNELS.md

The page takes the least of many runs, which other work on the machine disturbs least; `benchmarks/suite.py` takes medians.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from layers import OTHERS, PLAIN, CompiledGroup, Layer
from onnx import TensorProto, helper, numpy_helper
from repeated import RepeatedLayer

from bnncc.report.benchmark import processor
from bnncc.report.limits import Meter
from bnncc.schedules import packed
from bnncc.schedules.formulations.popcount import popcount
from bnncc.schedules.formulations.sliced import sliced_formulation
from bnncc.schedules.formulations.sliced_ones import sliced_by_ones
from bnncc.schedules.x86.carry_save import carry_save_formulation
from bnncc.schedules.x86.lookup import lookup
from bnncc.schedules.x86.lookup_pixels import pixel_formulation
from bnncc.schedules.x86.sliced_pixels import sliced_pixel_kernel
from bnncc.targets.x86 import native_variant

__all__ = ["kernel_table", "measure_kernels"]

REPEAT = 60

FORMULATIONS = {
    "popcount": popcount,
    "carry-save": carry_save_formulation,
    "lookup": lookup,
    "lookup by pixels": pixel_formulation,
    "sliced": sliced_formulation,
    "sliced by pixels": sliced_pixel_kernel,
    "sliced by ones": sliced_by_ones,
}


def _compiled(layer: Layer, formulation: str | None, folder: Path):
    """Return a call of the layer and the note of its kernel, None where the formulation does not take it."""
    function, arrays = layer.build()
    chosen = packed.choose_formulation
    if formulation:
        packed.choose_formulation = lambda builder, shape: FORMULATIONS[formulation](shape, builder.variant)
    try:
        where = Path(tempfile.mkdtemp(dir=folder))
        kernel = CompiledGroup(function, where)
    except AttributeError:  # the formulation returned None
        return None
    finally:
        packed.choose_formulation = chosen
    return RepeatedLayer(layer, kernel, arrays, folder), kernel.kernel.note


def _onnxruntime(layer: Layer):
    """Return a call of the layer in float32."""
    rng = np.random.default_rng(0)
    weights = rng.choice(np.array([-1, 1], np.float32), (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel))
    around = layer.dilation * (layer.kernel - 1) // 2
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[layer.stride] * 2, dilations=[layer.dilation] * 2, group=layer.groups, pads=[around] * 4)
    shape = (1, layer.inputs, layer.size * layer.stride, layer.size * layer.stride)
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)] for name, dims in (("x", shape), ("y", None))]
    graph = helper.make_graph([node], "layer", *ends, [numpy_helper.from_array(weights, "w")])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = rng.choice(np.array([-1, 1], np.float32), shape)

    def repeated(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            session.run(None, {"x": x})
        return time.perf_counter() - start

    return repeated


def _in_turns(calls: dict, repeat: int, of: Callable) -> dict[str, float]:
    """Return the seconds of each of `calls`, which run as often as they are told and return the seconds; the median or the least `of` them."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    counts: dict[str, int] = {}
    for turn in range(-3, repeat):
        for name, call in calls.items():
            count = counts.get(name, 1)
            spent = call(count)
            counts[name] = max(1, round(1e-3 / spent * count)) if turn < 0 else count  # a sample lasts a millisecond or more
            if turn >= 0:
                samples[name].append(spent / count)
    return {name: of(values) for name, values in samples.items()}


def measure_kernels(repeat: int = 30, log=lambda text: None, of: Callable = statistics.median) -> list[dict]:
    """Return a row for each layer: seconds by formulation, what was chosen, its limit, onnxruntime's seconds."""
    variant, rows = native_variant(), []
    meter = Meter(variant.tvm_target["mtriple"])
    with tempfile.TemporaryDirectory() as folder:
        for layer, like in [*((layer, i) for i, layer in enumerate(PLAIN)), *OTHERS]:
            log(layer.title)
            chosen, note = _compiled(layer, None, Path(folder))
            calls = {"chosen": chosen}
            found = {name: _compiled(layer, name, Path(folder)) for name in FORMULATIONS}
            calls |= {name: made[0] for name, made in found.items() if made}
            seconds = _in_turns({**calls, "onnxruntime": _onnxruntime(layer)}, repeat, of)
            limits = {name: meter.rate(variant.name, name) for name in {note.split(",")[0].split()[0], *calls} - {"chosen"}}
            rows.append(
                {"layer": layer.title, "macs": layer.macs, "like": PLAIN[like].title, "note": note, "seconds": seconds, "limits_gmacs": limits}
            )
    return rows


def kernel_table(rows: list[dict]) -> str:
    """Return what layers reach alone."""
    rates = {row["layer"]: {name: row["macs"] / seconds * 1e-9 for name, seconds in row["seconds"].items()} for row in rows}
    names = [name for name in FORMULATIONS if any(name in found for found in rates.values())]
    titles = ["layer", *names, "chosen", "of its limit", "of the like 3x3", "onnxruntime float32", "faster"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        found, kind = rates[row["layer"]], row["note"].split(",")[0]
        cells = [f"{found[name]:.0f}" if name in found else "" for name in names]
        limit = row["limits_gmacs"].get(kind.split()[0])
        like = "" if row["like"] == row["layer"] else f"{found['chosen'] / rates[row['like']]['chosen']:.0%}"
        cells += [f"{found['chosen']:.0f} {kind}", f"{found['chosen'] / limit:.0%}" if limit else "", like]
        lines.append(f"| {row['layer']} | {' | '.join(cells)} | {found['onnxruntime']:.0f} | {found['chosen'] / found['onnxruntime']:.1f}x |")
    return "\n".join(lines)


def page(rows: list[dict]) -> str:
    """Return the page of the table."""
    return (
        "# Binary layers alone on x86-64\n\n"
        f"Written by `python benchmarks/kernels.py > docs/X86_KERNELS.md`: {processor()}, code of {native_variant().name}, one thread, load average "
        f"{os.getloadavg()[0]:.1f}. 10^9 multiply-accumulates a second, thresholds and packing included; the least of {REPEAT} runs in turns. The limit is the "
        "least mix of instructions of the chosen formulation, measured in the same run.\n\n" + kernel_table(rows) + "\n"
    )


if __name__ == "__main__":
    print(page(measure_kernels(REPEAT, lambda text: print(text, file=sys.stderr), min)), end="")

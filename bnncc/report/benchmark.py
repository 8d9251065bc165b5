"""The latency of a compiled model beside onnxruntime's and other programs', in one process, in turns, on as many threads each."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bnncc import __version__
from bnncc.errors import BnnccError, InputError, ModelFormatError
from bnncc.remote import Machine, RemoteModel
from bnncc.report.peers import open_peer
from bnncc.report.samples import random_array
from bnncc.runtime import CompiledModel, load
from bnncc.spec import ByteInput

__all__ = ["BenchmarkReport", "Latency", "benchmark", "duration", "processor"]

SAMPLE_SECONDS = 1e-2  # a sample lasts at least this long: neither the clock's resolution nor the caches that the side before has filled count then
WARM_UP_SECONDS = 0.1
CALM_SECONDS = 0.1  # threads of the side before may still wait actively for more work, onnxruntime's for 20 to 50 ms, where the next side's are to run
MOST_CALLS = 1 << 16  # of a step of the warm-up


@dataclass(frozen=True)
class Latency:
    """Time of one call in seconds, over all samples."""

    median: float
    fastest: float
    quartiles: tuple[float, float]
    calls_a_sample: int

    @classmethod
    def of(cls, seconds: Sequence[float], calls: int) -> Latency:
        """Summarize samples, each the mean time of a call in seconds."""
        low, middle, high = (float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
        return cls(middle, float(min(seconds)), (low, high), calls)


@dataclass(frozen=True)
class BenchmarkReport:
    """What `benchmark` measured.

    Attributes
    ----------
    name, target, variant : str
        The compiled model, and the code that it chose on this machine.
    inputs : dict of str to str
        Element type and shape by name.
    repeat, threads : int
        Samples of each side, and the threads that each used.
    bnncc : Latency
    onnxruntime : Latency or None
        None where there was nothing to compare with.
    ratio : float or None
        onnxruntime's median over bnncc's; above 1, bnncc is faster.
    differences : dict of str to float
        Largest absolute difference of each output on the random inputs.
    machine, versions : dict
        Where and with what it was measured.
    peers : dict of str to Latency
        Of other programs.
    """

    name: str
    target: str
    variant: str
    inputs: dict[str, str]
    repeat: int
    threads: int
    bnncc: Latency
    onnxruntime: Latency | None
    ratio: float | None
    differences: dict[str, float]
    machine: dict[str, str | int]
    versions: dict[str, str]
    peers: dict[str, Latency] = field(default_factory=dict)

    def to_json(self) -> dict:
        """Return the report as what JSON can hold; times in seconds."""
        return asdict(self)

    def to_text(self, console: Console) -> None:
        """Print the report."""
        inputs = ", ".join(f"{name} {kind}" for name, kind in self.inputs.items())
        console.print(f"{self.name} for {self.target} (code {self.variant}), input {inputs}", markup=False)
        table = Table("", "median", "fastest", "middle half", box=None, pad_edge=False)
        for title, latency in (("bnncc", self.bnncc), ("onnxruntime", self.onnxruntime), *self.peers.items()):
            if latency:
                low, high = map(duration, latency.quartiles)
                table.add_row(title, duration(latency.median), duration(latency.fastest), f"{low} .. {high}")
        console.print(table)
        ratios = {name: peer.median / self.bnncc.median for name, peer in self.peers.items()}
        for name, ratio in {**({"onnxruntime": self.ratio} if self.ratio else {}), **ratios}.items():
            faster = f"is {ratio:.2f} times as fast as" if ratio >= 1 else f"takes {1 / ratio:.2f} times as long as"
            console.print(f"bnncc {faster} {name}.")
        for name, difference in self.differences.items():
            console.print(f"output {name}: largest difference {difference:.3g}", markup=False)
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        place = "timed on the device" if "emulated" in self.machine else "called from Python"
        how = f"{self.repeat} samples in turns, {self.threads} thread{'s'[: self.threads > 1]}, {place}"
        console.print(f"{how}; {self.machine['processor']}; {versions}", markup=False)
        if self.machine.get("emulated"):
            console.print("An emulator ran it there: these times say nothing of the processor's speed.")


def benchmark(
    folder: str | Path,
    against: str | Path | None = None,
    *,
    peers: Mapping[str, str | Path] | None = None,
    threads: int = 1,
    repeat: int = 30,
    progress: Callable[[str, int, int], None] | None = None,
    seed: int = 0,
    opener: Callable[[Path], CompiledModel] | None = None,
) -> BenchmarkReport:
    """Measure a compiled model on random inputs, in turns with onnxruntime where a model is given, and with other programs.

    All are called from Python with arrays in memory; onnxruntime optimizes its graph as it does by default.

    Parameters
    ----------
    folder : str or Path
        A compiled model.
    against : str or Path, optional
        The ONNX model that onnxruntime runs.
    peers : mapping of str to path, optional
        Other programs (`bnncc.report.peers.PEERS`) and the model that each runs.
    threads : int
        Of each.
    repeat : int
        Samples of each; a sample is as many calls as take ten milliseconds, at least one.
    progress : callable, optional
        Called with ``(step, done, total)``.
    seed : int
        Of the random inputs.
    opener : callable, optional
        Gives the model of a folder as what runs it; where that is a device, the device's clock measures, by TVM's time evaluator. By default this machine.

    Raises
    ------
    LibraryError, TargetError, DeviceError
        The compiled model cannot be loaded, or the device does not answer.
    ModelFormatError
        onnxruntime cannot run the ONNX model.
    InputError
        The models do not take the same inputs, the library was compiled for fewer threads, or a device is to be compared with this machine.
    ToolchainError
        Another program is not installed.
    """
    model = opener(Path(folder)) if opener else load(folder, threads)
    remote = model.machine if isinstance(model, RemoteModel) else None
    if remote and (against is not None or peers):
        raise InputError(f"{folder} runs on {remote.name}, other programs would run here: a ratio of the two says nothing. Leave --against or --rpc out.")
    rng = np.random.default_rng(seed)
    inputs = {spec.name: random_array(spec, rng) for spec in model.inputs}
    calls = [_calls_here(lambda: model(inputs)) if remote is None else model.timer(inputs)]
    versions = {"bnncc": __version__, "python": platform.python_version(), "numpy": np.__version__}
    differences = {}
    if against is not None:
        import onnxruntime

        session = _open_session(Path(against), model, threads)
        names = [spec.name for spec in model.outputs]
        versions["onnxruntime"] = onnxruntime.__version__
        calls.append(_calls_here(lambda: session.run(names, inputs)))
        try:
            reference = session.run(names, inputs)
        except Exception as error:  # onnxruntime's own classes share no base
            raise InputError(f"onnxruntime does not take the compiled model's inputs for {against}: {error}") from error
        differences = _differences(model, model(inputs), reference)
    others = [open_peer(name, path, inputs, threads) for name, path in (peers or {}).items()]
    for other in others:
        versions[other.name] = other.version
        calls.append(_calls_here(other.call))
    samples, counts = _measure(calls, repeat, progress or (lambda step, done, total: None), threads > 1)
    ours, *theirs = (Latency.of(seconds, count) for seconds, count in zip(samples, counts, strict=True))
    return BenchmarkReport(
        name=model.metadata["name"],
        target=model.metadata["target"],
        variant=model.variant,
        inputs={spec.name: f"{spec.dtype}[{', '.join(map(str, spec.shape))}]" for spec in model.inputs},
        repeat=repeat,
        threads=model.threads,
        bnncc=ours,
        onnxruntime=theirs[0] if against is not None else None,
        ratio=theirs[0].median / ours.median if against is not None else None,
        differences=differences,
        machine=_machine(remote),
        versions=versions,
        peers={other.name: latency for other, latency in zip(others, theirs[len(theirs) - len(others) :], strict=True)},
    )


def _machine(remote: Machine | None) -> dict[str, str | int]:
    if remote is not None:
        return {"processor": remote.name, "emulated": remote.emulated}
    return {"processor": processor(), "cores": os.cpu_count() or 1, "system": platform.platform(terse=True)}


def _open_session(path: Path, model: CompiledModel, threads: int):
    """Return an onnxruntime session that takes what `model` takes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if not path.is_file():
        raise ModelFormatError(f"The model {path} to compare with does not exist.")
    providers = ["CPUExecutionProvider"]
    taken = {name: ByteInput(**meaning) for name, meaning in model.metadata["model"].get("byte_inputs", {}).items()}
    try:
        given = _reference(path, model, taken) if taken else path
        session = onnxruntime.InferenceSession(given, options, providers=providers)
    except BnnccError:
        raise
    except Exception as error:  # onnxruntime's own classes share no base
        standard = _in_standard_operators(path, model)
        if standard is None:
            raise ModelFormatError(f"onnxruntime cannot run {path}: {error}") from error
        session = onnxruntime.InferenceSession(standard, options, providers=providers)
    for kind, ours, theirs in (("input", model.inputs, session.get_inputs()), ("output", model.outputs, session.get_outputs())):
        expected, found = {spec.name for spec in ours}, {tensor.name for tensor in theirs}
        if expected != found:
            raise InputError(
                f"{path} is not the model that {model.metadata['name']} was compiled from: its {kind}s are {', '.join(sorted(found))}, "
                f"those of the compiled model {', '.join(sorted(expected))}."
            )
    return session


def _in_standard_operators(path: Path, model: CompiledModel) -> bytes | None:
    """Return a model of quantizer domains (QONNX, FINN, Brevitas) spelled in standard operators, or None where that is not what ails it."""
    try:
        return _reference(path, model, {})
    except BnnccError:
        return None


def _reference(path: Path, model: CompiledModel, byte_inputs: Mapping[str, ByteInput]) -> bytes:
    """Return a model in standard operators, with inputs of bytes where the compiled one takes them."""
    from bnncc.frontend import import_onnx

    return import_onnx(path, {spec.name: spec.shape for spec in model.inputs}, byte_inputs).reference.SerializeToString()


def _differences(model: CompiledModel, ours: np.ndarray | dict, theirs: list[np.ndarray]) -> dict[str, float]:
    by_name = ours if isinstance(ours, dict) else {model.outputs[0].name: ours}
    return {
        name: float(np.max(np.abs(array.astype(np.float64) - reference), initial=0))
        for (name, array), reference in zip(by_name.items(), theirs, strict=True)
    }


def _calls_here(call: Callable) -> Callable[[int], float]:
    """Return a function of a number of calls that makes them and gives the mean seconds of one."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count

    return seconds


def _measure(
    timers: Sequence[Callable[[int], float]], repeat: int, progress: Callable[[str, int, int], None], calm: bool = False
) -> tuple[list[list[float]], list[int]]:
    """Return the samples of each timer, taken in turns so that a change of the machine's speed meets all, and the calls a sample.

    Where several threads run, `calm`, the side before comes to rest first, and an unmeasured call wakes those of the next.
    """
    counts = []
    for timer in timers:
        spent, count, more = 0.0, 0, 1
        while spent < WARM_UP_SECONDS:
            spent += more * timer(more)
            count += more
            more = min(2 * more, MOST_CALLS)
        counts.append(max(1, round(SAMPLE_SECONDS * count / spent)))
    samples = [[] for _ in timers]
    for turn in range(repeat):
        for timer, count, times in zip(timers, counts, samples, strict=True):
            if calm:
                time.sleep(CALM_SECONDS)
                timer(1)
            times.append(timer(count))
        progress("measure", turn + 1, repeat)
    return samples, counts


def processor() -> str:
    """Return the processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    except OSError:
        return platform.machine()


def duration(seconds: float) -> str:
    """Return a time with three digits and a fitting unit."""
    for scale, unit in ((1, "s"), (1e3, "ms")):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"

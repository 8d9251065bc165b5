"""A candidate: one kernel of a model as a compiled model of its own, built in another process, as a compiler may crash or never end."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm import relax

from bnncc.codegen import emit_c, emit_library
from bnncc.errors import BnnccError, ToolchainError
from bnncc.ops import dtype_of, static_shape
from bnncc.passes.lower_groups import lower_groups
from bnncc.spec import TensorSpec
from bnncc.targets import Target, Variant

__all__ = ["Built", "BuildPool", "build_model"]

NAME = "candidate"
"""Of the compiled models; their functions are ``candidate_run`` and the like."""


@dataclass(frozen=True)
class Built:
    """What became of a build: a folder with a compiled model, or how it failed (``refused``, ``crash``, ``timeout``) and why."""

    folder: Path | None
    status: str = "ok"
    message: str = ""


def build_model(module: tvm.IRModule, variant: Variant, decisions: Mapping[str, object], folder: Path) -> None:
    """Compile a module of groups for one variant and write it as a compiled model.

    Parameters
    ----------
    module : IRModule
        As after `fuse_epilogue`.
    variant : Variant
    decisions : mapping
        For every group.
    folder : Path
        Must not exist.

    Raises
    ------
    InternalError
        A kernel does not take the decisions.
    ToolchainError
        There is no C compiler.
    """
    target = Target(variant.name, "a candidate", (variant,))
    lowered, notes = lower_groups(module, variant, decide=lambda group: (decisions, ""))
    main = module["main"]
    specs = [TensorSpec(f"in{i}", static_shape(v), dtype_of(v)) for i, v in enumerate(main.params)]
    types = main.ret_ty.fields if isinstance(main.ret_ty, relax.TupleType) else [main.ret_ty]
    outputs = [TensorSpec(f"out{i}", tuple(int(d) for d in ty.shape.values), str(ty.dtype)) for i, ty in enumerate(types)]
    metadata = {"kernel_notes": {variant.name: notes}}
    described = {"name": NAME, "target": target, "inputs": specs, "outputs": outputs, "metadata": metadata, "out": folder}
    if variant.is_source:
        emit_c(lowered, origins={}, **described)
    else:
        emit_library({variant.name: lowered}, **described)


def _build(module: str, variant: Variant, decisions: Mapping[str, object], folder: str) -> tuple[str, str]:
    """Build in a worker; returns status and message."""
    try:
        build_model(tvm.ir.load_json(Path(module).read_text(encoding="utf-8")), variant, decisions, Path(folder))
    except BnnccError as error:
        return "refused", str(error)
    return "ok", ""


class BuildPool:
    """Processes that build candidates; one that crashes or takes too long is replaced.

    Parameters
    ----------
    workers : int
    timeout : float
        Seconds that a candidate may take.

    Raises
    ------
    ToolchainError
        What the pool needs is not installed.
    """

    def __init__(self, workers: int, timeout: float):
        try:
            import psutil  # noqa: F401  the pool ends processes by it
            from tvm.support.popen_pool import PopenPoolExecutor
        except ImportError as error:
            raise ToolchainError(f"Tuning needs {error.name}, which is not installed; `pip install bnncc[tune]` brings all that it needs.") from error
        self.timeout = timeout
        self._pool = PopenPoolExecutor(max_workers=workers, timeout=timeout)

    def build(self, module: Path, variant: Variant, candidates: Sequence[tuple[Mapping[str, object], Path]]) -> list[Built]:
        """Build candidates side by side.

        Parameters
        ----------
        module : Path
            A file with the task's module, as TVM's JSON.
        candidates : sequence of (mapping, Path)
            Decisions, and the folder to write.
        """
        submitted = [self._submit(module, variant, *candidate) for candidate in candidates]
        built = [self._result(future, folder) for future, (_, folder) in zip(submitted, candidates, strict=True)]
        for i, (found, candidate) in enumerate(zip(built, candidates, strict=True)):
            if found.status == "crash":  # once more: the process may have been killed from outside
                built[i] = self._result(self._submit(module, variant, *candidate), candidate[1])
        return built

    def _submit(self, module: Path, variant: Variant, decisions: Mapping[str, object], folder: Path):
        return self._pool.submit(_build, str(module), variant, dict(decisions), str(folder))

    def _result(self, future, folder: Path) -> Built:
        try:
            status, message = future.result()
        except TimeoutError:
            status, message = "timeout", f"it was not built within {self.timeout:g} s"
        except Exception as error:  # noqa: BLE001  whatever ends a worker
            last = str(error).strip().splitlines()[-1:]
            status, message = "crash", f"the compiler ended: {last[0] if last else type(error).__name__}"
        if status != "ok":
            shutil.rmtree(folder, ignore_errors=True)
            return Built(None, status, message)
        return Built(folder)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False)

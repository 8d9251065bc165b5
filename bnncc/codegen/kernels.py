"""All kernels of a library to object code: each distinct one once, on all cores, from the cache where it is known."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import tvm
import tvm_ffi

from bnncc import __version__
from bnncc.codegen import lower_tir
from bnncc.codegen.cache import KernelCache, cache_directory

__all__ = ["CompiledKernel", "Progress", "compile_kernels"]

Progress = Callable[[int, int], None]

# Two cores rarely gain from more threads than that; the pass pipeline holds no lock of Python's while it runs.
_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@dataclass(frozen=True)
class CompiledKernel:
    """Object code of one PrimFunc: its symbol, the sizes in bytes of the scratch pointers behind its tensors, and the object."""

    symbol: str
    scratch: tuple[int, ...]
    content: bytes


def _pipeline_version() -> str:
    """Return what decides the object besides the PrimFunc: TVM, bnncc and the text of the lowering itself."""
    source = Path(lower_tir.__file__).read_bytes()
    return f"{tvm.__version__} {__version__} {hashlib.sha256(source).hexdigest()}"


def _key(func: tvm.tirx.PrimFunc, target: dict, version: str) -> str:
    """Return the cache key of a kernel, independent of its name.

    The text misses nothing that we know of, but it is meant for readers; the structural hash has 64 bits only. Together they are safe.
    """
    func = func.with_attr("global_symbol", "kernel")
    parts = [version, json.dumps(target, sort_keys=True), str(tvm_ffi.structural_hash(func)), func.script(show_meta=True)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _compile(func: tvm.tirx.PrimFunc, target: dict, key: str, cache: KernelCache) -> CompiledKernel:
    symbol = f"bnncc_kernel_{key[:20]}"
    known = cache.get(key)
    if known is not None:
        description, content = known
        return CompiledKernel(symbol, tuple(description["scratch"]), content)
    tvm_target = tvm.target.Target(target)
    lowered = lower_tir.lower_kernel(func, symbol, tvm_target)
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        path = Path(folder, "kernel.o")
        lower_tir.build_object(lowered, tvm_target, str(path))
        content = path.read_bytes()
    cache.put(key, {"scratch": list(lowered.scratch)}, content)
    return CompiledKernel(symbol, lowered.scratch, content)


def compile_kernels(requests: Sequence[tuple[tvm.tirx.PrimFunc, dict]], progress: Progress | None = None) -> list[CompiledKernel]:
    """Compile PrimFuncs, each for its TVM target.

    Parameters
    ----------
    requests : sequence of (PrimFunc, dict)
        Kernel and TVM target.
    progress : callable, optional
        Called as ``progress(done, total)`` in the caller's thread, with the count of distinct kernels.

    Returns
    -------
    list of CompiledKernel
        One for each request, in order; equal kernels give the same object.

    Raises
    ------
    InternalError
        A kernel cannot be compiled ahead of time.
    """
    version = _pipeline_version()
    keys = [_key(func, target, version) for func, target in requests]
    distinct = {key: request for key, request in zip(keys, requests, strict=True)}
    cache = KernelCache(cache_directory())
    done: dict[str, CompiledKernel] = {}
    if progress:
        progress(0, len(distinct))
    with ThreadPoolExecutor(_THREADS) as pool:
        futures = {pool.submit(_compile, func, target, key, cache): key for key, (func, target) in distinct.items()}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                if progress:
                    progress(len(done), len(distinct))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    cache.trim()
    return [done[key] for key in keys]

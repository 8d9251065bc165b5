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
from bnncc.codegen import lower_tir, parallel, rounding
from bnncc.codegen.cache import KernelCache, cache_directory
from bnncc.errors import BnnccError, InternalError

__all__ = ["CompiledKernel", "KernelRequest", "Progress", "compile_kernels"]

Progress = Callable[[int, int], None]

# TVM's calls release Python's lock: eight kernels took 3.4 s on one thread and 1.9 s on two.
_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
_TRIM_SECONDS = 600.0  # between two looks at the size of the cache: nobody compiles another gigabyte meanwhile


@dataclass(frozen=True)
class KernelRequest:
    """A PrimFunc to compile: its name for messages, the function, and the TVM target."""

    name: str
    func: tvm.tirx.PrimFunc
    target: dict


@dataclass(frozen=True)
class CompiledKernel:
    """Object code of one PrimFunc: its symbol, the sizes in bytes of the scratch pointers behind its tensors, the object, and if it is `parallel`."""

    symbol: str
    scratch: tuple[int, ...]
    content: bytes
    parallel: bool = False


def _pipeline_version() -> str:
    """Return what decides the object besides the PrimFunc: TVM, bnncc and the text of the lowering itself."""
    source = b"".join(Path(module.__file__).read_bytes() for module in (lower_tir, parallel, rounding))
    return f"{tvm.__version__} {__version__} {hashlib.sha256(source).hexdigest()}"


def _key(request: KernelRequest, version: str) -> str:
    """Return the cache key of a kernel, independent of its name.

    The text misses nothing that we know of, but it is meant for readers; the structural hash has 64 bits only. Together they are safe.
    """
    func = request.func.with_attr("global_symbol", "kernel")
    parts = [version, json.dumps(request.target, sort_keys=True), str(tvm_ffi.structural_hash(func)), func.script(show_meta=True)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _compile(request: KernelRequest, key: str, cache: KernelCache) -> CompiledKernel:
    symbol = f"bnncc_kernel_{key[:20]}"
    known = cache.get(key)
    if known is not None:
        description, content = known
        return CompiledKernel(symbol, tuple(description["scratch"]), content, description["parallel"])
    target = tvm.target.Target(request.target)
    try:
        lowered = lower_tir.lower_kernel(request.func, symbol, target)
        with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
            path = Path(folder, "kernel.o")
            lower_tir.build_object(lowered, target, str(path))
            content = path.read_bytes()
    except BnnccError:
        raise
    except Exception as error:  # TVM raises whatever its C++ side names
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise InternalError(f"kernel {request.name} cannot be compiled for {request.target.get('mcpu', target)}: {reason[0]}") from error
    cache.put(key, {"scratch": list(lowered.scratch), "parallel": lowered.parallel}, content)
    return CompiledKernel(symbol, lowered.scratch, content, lowered.parallel)


def compile_kernels(requests: Sequence[KernelRequest], progress: Progress | None = None) -> list[CompiledKernel]:
    """Compile PrimFuncs, each for its TVM target.

    Parameters
    ----------
    requests : sequence of KernelRequest
        May hold a kernel more than once.
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
    cache = KernelCache(cache_directory())
    done: dict[str, CompiledKernel] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        keys = list(pool.map(lambda request: _key(request, version), requests))
        distinct = dict(zip(keys, requests, strict=True))
        if progress:
            progress(0, len(distinct))
        futures = {pool.submit(_compile, request, key, cache): key for key, request in distinct.items()}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                if progress:
                    progress(len(done), len(distinct))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    cache.trim(_TRIM_SECONDS)
    return [done[key] for key in keys]

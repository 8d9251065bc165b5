"""Threads that share the calls of a compiled model; the library runs them, what they need to know of each other lies in memory of ours."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from bnncc.errors import InputError, LibraryError

__all__ = ["Crew", "Threading", "address", "checked_count", "pointers"]

_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def checked_count(count: int) -> int:
    """Return how many threads a call gets when `count` are wished for: never more than there are processors for.

    Raises
    ------
    InputError
        It is no number from 1 on.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"threads is {count!r}; give a whole number from 1 on.")
    return min(int(count), _PROCESSORS)


@cache
def _array_of_pointers(count: int) -> type[ctypes.Array]:
    return ctypes.c_void_p * count


def address(array: np.ndarray) -> int:
    """Return where a dense array lies in memory.

    Small networks take microseconds: asked of the buffer it takes 0.5 us, ``array.ctypes.data``, which read-only and empty arrays need, 1.5 us.
    """
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError, BufferError):
        return array.ctypes.data


def pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array:
    """Return the addresses as C lays out both a structure of pointers and an array of them; one more keeps an empty list valid."""
    return _array_of_pointers(len(arrays) + 1)(*map(address, arrays))


class Threading:
    """The functions of a library that concern threads.

    Parameters
    ----------
    library : ctypes.CDLL
    metadata : dict
    """

    def __init__(self, library: ctypes.CDLL, metadata: dict):
        name = metadata["name"]
        self._sizes = metadata["threads"]
        self._start, self._run, self._stop = (getattr(library, f"{name}_threads_{what}") for what in ("start", "run", "stop"))
        self._start.restype, self._start.argtypes = ctypes.c_int32, [ctypes.c_void_p, ctypes.c_int32]
        self._run.restype, self._run.argtypes = ctypes.c_int32, [ctypes.c_void_p] * 4
        self._stop.restype, self._stop.argtypes = None, [ctypes.c_void_p]

    def crew(self, count: int) -> Crew:
        """Start threads.

        Raises
        ------
        LibraryError
            The system does not give so many.
        """
        state = np.zeros(self._sizes["bytes"] // 8, np.uint64)
        code = self._start(state.ctypes.data, count)
        if code < 0:
            raise LibraryError(f"{count} threads cannot be started; the system's limit is reached (`ulimit -u`).")
        return Crew(state, self._run, self._stop, (code - 1) * self._sizes["workspace_bytes"])


class Crew:
    """Threads that end with this object; they serve one call at a time.

    Attributes
    ----------
    workspace_bytes : int
        What a call needs beyond the workspace of one thread.
    """

    def __init__(self, state: np.ndarray, run: Callable, stop: Callable, workspace_bytes: int):
        self._state, self._run = state, run
        self.workspace_bytes = workspace_bytes
        self._process = os.getpid()
        weakref.finalize(self, _stop_in, self._process, stop, state)

    @property
    def state(self) -> int:
        """Address of what the library knows of them."""
        return address(self._state)

    @property
    def alive(self) -> bool:
        """Whether the threads are there: after a fork the child has none."""
        return self._process == os.getpid()

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], workspace: int) -> int:
        """Run the network once, with a workspace at an address; returns the function's code."""
        return self._run(address(self._state), pointers(inputs), pointers(outputs), workspace)


def _stop_in(process: int, stop: Callable, state: np.ndarray) -> None:
    if os.getpid() == process:
        stop(state.ctypes.data)

"""Kernel objects kept on disk between runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path

import filelock
import platformdirs

__all__ = ["LIMIT_BYTES", "KernelCache", "cache_directory"]

LIMIT_BYTES = 512 * 1024 * 1024

_STAMP = "trimmed"  # an empty file, as old as the last time that the entries were counted

_log = logging.getLogger(__name__)


def cache_directory() -> Path:
    """Return where kernels are kept: the variable BNNCC_CACHE_DIR, else the user's cache directory."""
    return Path(os.environ.get("BNNCC_CACHE_DIR") or platformdirs.user_cache_dir("bnncc", appauthor=False))


class KernelCache:
    """Object code by key, with its description.

    An entry is one file: a line of JSON with the hash of the object and its description, then the object. Files are written beside their
    place and moved there, so that a reader never sees half of one; a damaged one counts as absent. A cache that cannot be used (a
    read-only home, a full disk) only costs time.

    Parameters
    ----------
    directory : Path
        Made when the first entry is written.
    limit : int
        Size in bytes above which the entries that were not used for longest go.
    """

    def __init__(self, directory: Path, limit: int = LIMIT_BYTES):
        self.directory = directory
        self.limit = limit

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}.kernel"

    def get(self, key: str) -> tuple[dict, bytes] | None:
        """Return description and object of the entry, or None where there is none that is whole."""
        path = self._path(key)
        try:
            head, _, content = path.read_bytes().partition(b"\n")
            entry = json.loads(head)
            if entry["sha256"] != hashlib.sha256(content).hexdigest():
                raise ValueError("the object does not have the hash written beside it")
            description = dict(entry["description"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("The cached kernel %s is damaged (%s) and is compiled again.", path, error)
            return None
        try:
            os.utime(path)
        except OSError:
            pass  # only the order of eviction suffers
        return description, content

    def put(self, key: str, description: dict, content: bytes) -> None:
        """Keep an object; failure to do so is logged, not raised."""
        head = json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "description": description})
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.directory, suffix=".part")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(head.encode() + b"\n" + content)
                os.replace(name, self._path(key))
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            _log.warning(
                "The kernel cache in %s cannot be written (%s); the next compilation starts from nothing.", self.directory, error
            )

    def trim(self, after: float = 0.0) -> None:
        """Delete what was not used for longest until the cache is within its limit.

        Parameters
        ----------
        after : float
            Seconds since it was last done within which nothing is: to count ten thousand entries takes as long as to compile a few.
        """
        stamp = self.directory / _STAMP
        try:
            if after and stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < after:
                return
            with filelock.FileLock(self.directory / "lock", timeout=0):
                stamp.touch()
                with os.scandir(self.directory) as found:
                    entries = sorted((stat.st_mtime, stat.st_size, Path(entry)) for entry in found if entry.name.endswith(".kernel") and (stat := entry.stat()))
                excess = sum(size for _, size, _ in entries) - self.limit
                for _, size, path in entries:
                    if excess <= 0:
                        break
                    path.unlink(missing_ok=True)
                    excess -= size
        except filelock.Timeout:
            pass  # another compilation is at it
        except OSError as error:
            _log.warning("The kernel cache in %s cannot be trimmed (%s).", self.directory, error)

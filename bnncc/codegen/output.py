"""Writing a folder all at once: what is there afterwards is the old content or the new one, whole."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnncc.errors import BnnccError, OutputError

__all__ = ["C_FORMAT", "FORMAT", "METADATA_FILE", "OBJECT_FORMAT", "PROJECT_FORMAT", "output_folder"]

METADATA_FILE = "metadata.json"
FORMAT = "bnncc-library"
C_FORMAT = "bnncc-c"
PROJECT_FORMAT = "bnncc-project"
OBJECT_FORMAT = "bnncc-object"


def _own_files(folder: Path) -> set[str] | None:
    """Return the files of a compiled model in `folder`, or None where it holds none."""
    try:
        metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        if metadata["format"] not in (FORMAT, C_FORMAT, PROJECT_FORMAT, OBJECT_FORMAT):
            return None
        return {METADATA_FILE, *map(str, metadata["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_replaceable(out: Path) -> set[str]:
    """Return the files that may be replaced in the existing path `out`.

    Raises
    ------
    OutputError
        It is no folder, or holds something that bnncc did not write.
    """
    if not out.is_dir():
        raise OutputError(
            f"{out} exists and is not a folder. Name a folder that does not exist, is empty, or holds an earlier output of bnncc."
        )
    own = _own_files(out)
    present = {entry.name for entry in out.iterdir()}
    foreign = sorted(present - (own or set()))
    if foreign:
        listed = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        kind = "beside a compiled model other files" if own else "files that bnncc did not write"
        raise OutputError(
            f"The folder {out} holds {kind} ({listed}) and is left as it is. "
            "Name a folder that does not exist, is empty, or holds nothing but an earlier output of bnncc."
        )
    return present  # and not what else the metadata may name, such as files of other folders


def _make_parents(folder: Path) -> list[Path]:
    """Make the folders above the output; return those that are new, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    for path in missing:
        path.mkdir(exist_ok=True)
    return missing


def _move_into(staging: Path, out: Path, old: set[str]) -> None:
    """Move the staged files over those in `out`, the metadata last, and delete what the new content does not have."""
    new = sorted((entry.name for entry in staging.iterdir()), key=lambda name: (name == METADATA_FILE, name))
    for name in new:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        os.replace(staging / name, out / name)
    for name in old - set(new):
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Give a staging folder whose files become the content of `out` if the block succeeds.

    A new folder appears by one rename. In an existing one each file is replaced by a rename, metadata.json last: the folder itself stays,
    as it may be somebody's working directory, and a running program keeps the library that it has open. If the block raises, nothing has
    changed and nothing is left behind.

    Parameters
    ----------
    out : Path
        Must not exist, be empty, or hold an earlier output and nothing else.

    Raises
    ------
    OutputError
        `out` holds other content or cannot be written.
    """
    out = Path(os.path.abspath(out))
    exists = out.exists() or out.is_symlink()
    old = _check_replaceable(out) if exists else set()
    made: list[Path] = []
    try:
        made = [] if exists else _make_parents(out.parent)
        staging = (out if exists else out.parent) / f".bnncc-{uuid.uuid4().hex}"
        staging.mkdir()  # with the permissions that the finished folder is to have
    except OSError as error:
        _remove_empty(made)
        raise OutputError(
            f"{out} cannot be written: {error.strerror or error}. Name a folder in a place that you may write to."
        ) from error
    try:
        yield staging
        if exists:
            _move_into(staging, out, old)
        else:
            os.rename(staging, out)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_empty(made)
        if isinstance(error, OSError) and not isinstance(error, BnnccError):
            raise OutputError(f"{out} cannot be written: {error.strerror or error}.") from error
        raise
    shutil.rmtree(staging, ignore_errors=True)


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:
            return  # somebody else has put something there

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import bnncc
from bnncc import errors

MODULES = [m.name for m in pkgutil.walk_packages(bnncc.__path__, "bnncc.") if not m.name.endswith("__main__")]


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_importing_bnncc_imports_no_library():
    assert not loaded_by("import bnncc, bnncc.errors") & {"tvm", "tvm_ffi", "onnx", "onnxruntime", "numpy", "rich", "typer", "networkx"}


def test_running_a_compiled_model_takes_numpy_and_no_compiler():
    loaded = loaded_by("import bnncc; bnncc.load; bnncc.CompiledModel")
    assert "numpy" in loaded and not loaded & {"tvm", "tvm_ffi", "onnx", "onnxruntime", "typer", "networkx", "jinja2"}


def test_the_command_line_loads_tvm_only_when_a_command_needs_it():
    assert not loaded_by("import bnncc.cli.app") & {"tvm", "tvm_ffi", "onnx", "onnxruntime"}


def test_all_that_is_promised_is_there():
    assert sorted(bnncc.__all__, key=str.lower) == sorted(["BnnccError", "CompiledArtifact", "CompiledModel", "compile", "load", "__version__"], key=str.lower)
    for name in bnncc.__all__:
        assert getattr(bnncc, name) is not None
    assert bnncc.compile is importlib.import_module("bnncc.compiler").compile
    assert bnncc.load is importlib.import_module("bnncc.runtime").load


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'bnncc' has no attribute 'decompile'"):
        bnncc.decompile  # noqa: B018


def test_the_version_is_that_of_the_package():
    metadata = importlib.import_module("importlib.metadata")
    assert bnncc.__version__ == metadata.version("bnncc")


@pytest.mark.parametrize("name", MODULES)
def test_every_name_in_all_exists(name):
    module = importlib.import_module(name)
    assert [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)] == []


def tree_in_docstring() -> dict[str, str]:
    """Return each exception in the docstring of errors with the one it stands under."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        name = line.strip("│├└─ ").partition(" ")[0]
        if not line.startswith("    ") or not hasattr(errors, name):
            continue
        depth = (line.index(name) - 4) // 4
        parents[name] = path[depth - 1] if depth else ""
        path[depth:] = [name]
    return parents


CLASSES = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, Exception)}


def test_the_docstring_of_errors_is_the_tree_of_its_classes():
    actual = {n: next((b.__name__ for b in c.__bases__ if b in CLASSES.values()), "") for n, c in CLASSES.items()}
    assert tree_in_docstring() == actual


def test_errors_offers_all_of_its_classes_and_each_says_what_it_means():
    assert sorted(errors.__all__) == sorted(CLASSES)
    assert all(issubclass(c, errors.BnnccError) and c.__doc__ for c in CLASSES.values())


def test_callers_may_catch_the_built_in_kinds():
    assert issubclass(errors.InputError, ValueError) and issubclass(errors.OutputError, OSError)

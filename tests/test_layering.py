"""The shape of the source: who may import whom, who may know the target, how long a file may be.

Imports point one way::

    cli > report > compiler > {frontend, passes, codegen} > {schedules, runtime} > {ops, targets, spec} > errors

`report` stands above the compiler, because inspect and verify compile a model and then look into what every layer made of it. `cli` only parses: it talks to
compiler, report, runtime and targets, not to what is below them. `runtime` is what a deployed model needs: NumPy, and neither TVM nor ONNX.
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from bnncc.passes.pipeline import PIPELINE
from bnncc.targets import find_target, target_names

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bnncc"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "errors": set(),
    "nearest": {"errors"},
    "spec": {"errors"},
    "toolchain": {"errors"},
    "targets": {"errors", "nearest"},
    "ops": {"errors"},
    "runtime": {"errors", "spec", "toolchain"},
    "schedules": {"errors", "ops", "targets"},
    "passes": {"errors", "spec", "ops", "targets", "schedules"},
    "frontend": {"errors", "spec", "ops"},
    "codegen": {"errors", "spec", "toolchain", "ops", "targets", "runtime"},
    "remote": {"errors", "spec", "toolchain", "runtime"},
    "boards": {"errors", "nearest", "spec", "toolchain", "targets", "codegen"},
    "tuning": {"errors", "spec", "toolchain", "ops", "targets", "schedules", "passes", "codegen", "runtime", "boards", "remote"},
    "compiler": {"errors", "spec", "ops", "targets", "schedules", "passes", "frontend", "codegen", "tuning"},
    "report": {
        "errors",
        "spec",
        "toolchain",
        "ops",
        "targets",
        "schedules",
        "passes",
        "frontend",
        "codegen",
        "runtime",
        "compiler",
        "boards",
        "remote",
        "tuning",
    },
    "cli": {"errors", "nearest", "spec", "targets", "runtime", "compiler", "report", "boards", "remote", "tuning"},
}
"""Layer to the layers it may import besides itself. Everybody may import `bnncc` itself for its version: that imports no more than errors."""

FOREIGN = {
    "errors": {"tvm", "tvm_ffi", "onnx", "onnxruntime", "numpy", "typer", "rich"},
    "spec": {"tvm", "tvm_ffi", "onnx", "onnxruntime", "typer", "rich"},
    "toolchain": {"tvm", "tvm_ffi", "onnx", "onnxruntime", "numpy", "typer", "rich"},
    "targets": {"tvm", "tvm_ffi", "onnx", "onnxruntime", "typer", "rich"},
    "runtime": {"tvm", "tvm_ffi", "onnx", "onnxruntime", "typer", "rich", "networkx", "jinja2"},
    "ops": {"onnx", "onnxruntime", "typer", "rich"},
    "schedules": {"onnx", "onnxruntime", "typer", "rich"},
    "passes": {"onnx", "onnxruntime", "typer", "rich"},
    "codegen": {"onnx", "onnxruntime", "typer", "rich"},
    "frontend": {"typer", "rich"},
    "remote": {"onnx", "onnxruntime", "typer", "rich"},
    "boards": {"tvm", "tvm_ffi", "onnx", "onnxruntime", "typer", "rich"},
    "compiler": {"onnxruntime", "typer", "rich"},
    "report": {"typer"},
    "cli": {"tvm", "tvm_ffi", "onnxruntime"},
}
"""Layer to the libraries that have no business there."""


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """Return the full names of the modules that a source text imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # "from bnncc import ops" imports bnncc.ops
            names.update(f"bnncc.{alias.name}" for alias in node.names) if node.module == "bnncc" else names.add(node.module)
    return names


def violations(layer: str, source: str) -> list[str]:
    """Return the imports of a source text that its layer may not have."""
    found = []
    for name in sorted(imported(source)):
        top, _, rest = name.partition(".")
        if top == "bnncc":
            inner = rest.partition(".")[0]
            if inner in MAY_IMPORT and inner != layer and inner not in MAY_IMPORT[layer]:
                found.append(name)
        elif top in FOREIGN.get(layer, ()):
            found.append(name)
    return found


@pytest.mark.parametrize("path", [p for p in SOURCES if layer_of(p) not in ("__init__", "__main__")], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    assert layer_of(path) in MAY_IMPORT, f"{path.name}: say in this test what the new layer may import"
    assert violations(layer_of(path), path.read_text()) == []


def test_the_rule_finds_what_it_forbids():
    assert violations("ops", "from bnncc.passes.rewrite import Graph") == ["bnncc.passes.rewrite"]
    assert violations("runtime", "def f():\n    import tvm.relax") == ["tvm.relax"]
    assert violations("schedules", "from bnncc import passes") == ["bnncc.passes"]
    assert violations("cli", "from bnncc import compiler, __version__") == []


def test_the_rule_has_no_cycle():
    assert list(TopologicalSorter(MAY_IMPORT).static_order())[0] == "errors"


def test_importing_the_package_itself_imports_no_more_than_errors():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    eager = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert set(eager) <= {"__future__", "typing", "bnncc.errors"}


VARIANTS = {variant.name for name in target_names() for variant in find_target(name).variants}
TARGET_WORDS = {*target_names(), *VARIANTS, "x86", "x86_64", "aarch64", "arm64", "neon", "llvm"}


def questions(source: str) -> list[str]:
    """Return the comparisons of a source text with the name of a target."""
    found = []
    for node in ast.walk(ast.parse(source)):
        asked = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("startswith", "endswith"):
            asked = node.args
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        words = {c.value for each in asked for c in ast.walk(each) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
        if words & TARGET_WORDS:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


HOST = {"toolchain.py"}  # compares what a library is built for with the machine at hand


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if layer_of(p) != "targets" and str(p.relative_to(PACKAGE)) not in HOST], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_nobody_outside_targets_asks_which_target_it_is(path):
    assert questions(path.read_text()) == []


def test_the_question_is_recognised_in_every_form():
    asked = [
        'if variant.name == "v3": pass',
        'x = 1 if "x86-64" in (target.name, 0) else 2',
        'if name in ("v3", "v4"): pass',
        'if triple.startswith("x86_64"): pass',
        'match name:\n    case "native": pass',
    ]
    assert all(len(questions(source)) == 1 for source in asked)
    assert questions('if kind == "dense": pass\nTARGET = "x86-64"') == []


@pytest.mark.parametrize("folder", ["bnncc", "tests", "examples"])
def test_files_have_at_most_400_lines(folder):
    long = {str(p.relative_to(ROOT)): n for p in (ROOT / folder).rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_every_pass_has_a_file_and_a_test_file_of_its_name():
    for run in {run for _, passes in PIPELINE for run in passes}:
        assert run.__module__ == f"bnncc.passes.{run.__name__}"
        assert (ROOT / "tests" / "passes" / f"test_{run.__name__}.py").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_and_all_that_it_offers_are_documented(path):
    tree = ast.parse(path.read_text())
    if not tree.body:
        return  # the __init__ of a package that offers nothing itself
    assert ast.get_docstring(tree)
    undocumented = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name in _all(tree) and not ast.get_docstring(n)]
    assert undocumented == []


def _all(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return ast.literal_eval(node.value)
    return []

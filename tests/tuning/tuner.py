"""A tuner of two small kernels, run by the fault test as a process of its own: prints every record that it has kept, one a line."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "schedules"))

from group_runner import meaning
from test_space import arrays_of, binary_layer
from tvm import relax

from bnncc.passes.rewrite import const
from bnncc.targets.x86 import native_variant
from bnncc.tuning.database import Database
from bnncc.tuning.local import LocalRunner
from bnncc.tuning.runner import Sample
from bnncc.tuning.session import TuningSession
from bnncc.tuning.task import Task, workload_key


def task_of(function: relax.Function, arrays) -> Task:
    """Return the task of a group whose first parameter is the input."""
    x = relax.Var("x", function.params[0].ty)
    builder = relax.BlockBuilder()
    gvar = builder.add_func(function, "group")
    with builder.function("main", [x]):
        with builder.dataflow():
            made = builder.emit_output(relax.Call(gvar, [x, *map(const, arrays[1:])]))
        builder.emit_func_output(made)
    return Task(workload_key(function), "a layer", builder.get(), ("x",), ("y",), ("y",))


def session(folder: Path, trials: int, runner=None, observer=None, pool=None) -> TuningSession:
    """Return a tuning session of one binary layer."""
    function = binary_layer()
    arrays = arrays_of(function, 0)
    task = task_of(function, arrays)
    variant = native_variant()
    samples = {task.workload: [Sample((arrays[0],), tuple(meaning(function, arrays)))]}
    runner = runner or LocalRunner("here")
    return TuningSession([task], samples, variant, runner, Database(folder), trials, observer, pool=pool)


if __name__ == "__main__":
    def show(_, record):
        if record is not None:
            sys.stdout.write(record.to_line())
            sys.stdout.flush()

    session(Path(sys.argv[1]), int(sys.argv[2]), observer=show).run()

"""A lowered Relax function as a straight line of kernel calls over numbered buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import relax

from bnncc.codegen.lower_tir import buffer_bytes
from bnncc.errors import InternalError

__all__ = ["Buffer", "Call", "Program", "read_entries", "read_program"]

_CALL_TIR = tvm.ir.Op.get("relax.call_tir")
# What moves no element of a dense tensor is an alias.
_ALIASES = [tvm.ir.Op.get(f"relax.{name}") for name in ("reshape", "flatten", "expand_dims", "squeeze")]


@dataclass(frozen=True)
class Buffer:
    """A stretch of memory; tensors that are reshapes of each other share one.

    Parameters
    ----------
    kind : str
        ``input``, ``constant``, ``output`` (the caller's memory) or ``temp`` (in the arena).
    index : int
        Its number within the kind.
    nbytes : int
        Its size in bytes.
    """

    kind: str
    index: int
    nbytes: int


@dataclass(frozen=True)
class Call:
    """One kernel call: the name of the PrimFunc in the module, what it reads and writes, and the Relax variables that name its results."""

    kernel: str
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    results: tuple[str, ...] = ()


@dataclass
class Program:
    """One entry of a module.

    Parameters
    ----------
    name : str
        Name of the Relax function.
    inputs, outputs : list of (shape, dtype)
        What the caller gives and gets.
    calls : list of Call
        In the order of execution.
    copies : list of (Buffer, int)
        Outputs that no kernel writes: source, and the number of the output.
    constants : list of numpy.ndarray
        Contents of the buffers of kind ``constant``.
    """

    name: str
    inputs: list[tuple[tuple[int, ...], str]] = field(default_factory=list)
    outputs: list[tuple[tuple[int, ...], str]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    copies: list[tuple[Buffer, int]] = field(default_factory=list)
    constants: list[np.ndarray] = field(default_factory=list)


def _signature(ty: relax.TensorType, where: str) -> tuple[tuple[int, ...], str]:
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        raise InternalError(f"{where} has the type {ty}: only tensors of known shape can be compiled ahead of time")
    dims = list(ty.shape.values)
    if not all(isinstance(dim, (int, tvm.tirx.IntImm)) for dim in dims):
        raise InternalError(f"{where} has the shape {dims}: every dimension must be a number")
    return tuple(int(dim) for dim in dims), str(ty.dtype)


def _nbytes(signature: tuple[tuple[int, ...], str]) -> int:
    shape, dtype = signature
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


class _Reader:
    """Walks one function; `values` maps each Relax variable to a buffer, or to a tuple of them."""

    def __init__(self, name: str):
        self.program = Program(name)
        self.values: dict[relax.Var, Buffer | tuple] = {}
        self.temps = 0
        self.names: dict[Buffer, list[str]] = {}

    def temp(self, nbytes: int) -> Buffer:
        self.temps += 1
        return Buffer("temp", self.temps - 1, nbytes)

    def value(self, expr: relax.Expr) -> Buffer | tuple:
        """Return the buffer that holds `expr`, a leaf or an alias of one."""
        if isinstance(expr, tvm.ir.GenericConst):
            self.program.constants.append(np.ascontiguousarray(expr.value.numpy()))
            return Buffer("constant", len(self.program.constants) - 1, self.program.constants[-1].nbytes)
        if isinstance(expr, relax.Var):
            if expr not in self.values:
                raise InternalError(f"{self.program.name}: {expr.name} is used before it is bound")
            return self.values[expr]
        if isinstance(expr, relax.Tuple):
            return tuple(self.value(item) for item in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self.value(expr.tuple_value)[expr.index]
        if isinstance(expr, relax.Call) and expr.op in _ALIASES:
            return self.value(expr.args[0])
        raise InternalError(
            f"{self.program.name}: {expr} cannot be emitted. A lowered function holds calls of PrimFuncs (R.call_tir), reshapes, tuples "
            "and aliases; every other operator must be legalized before."
        )

    def call(self, call: relax.Call) -> Buffer | tuple:
        """Append the kernel call and return what it writes."""
        kernel = call.args[0].name_hint
        reads = self.value(call.args[1])
        reads = reads if isinstance(reads, tuple) else (reads,)
        types = call.ty_args[0]
        several = not isinstance(types, relax.TensorType)
        writes = tuple(self.temp(_nbytes(_signature(ty, f"an output of {kernel}"))) for ty in (types.fields if several else [types]))
        self.program.calls.append(Call(kernel, reads, writes))
        return writes if several else writes[0]

    def read(self, func: relax.Function) -> Program:
        for index, param in enumerate(func.params):
            signature = _signature(param.ty, f"parameter {param.name} of {self.program.name}")
            self.program.inputs.append(signature)
            self.values[param] = Buffer("input", index, _nbytes(signature))
        body = func.body
        for binding in [item for block in body.blocks for item in block.bindings] if isinstance(body, relax.SeqExpr) else []:
            value = binding.value
            is_call = isinstance(value, relax.Call) and value.op == _CALL_TIR
            self.values[binding.var] = found = self.call(value) if is_call else self.value(value)
            if isinstance(found, Buffer):
                self.names.setdefault(found, []).append(binding.var.name)
        result = body.body if isinstance(body, relax.SeqExpr) else body
        several = not isinstance(result.ty, relax.TensorType)
        types = result.ty.fields if several else [result.ty]
        self.program.outputs = [_signature(ty, f"output {index} of {self.program.name}") for index, ty in enumerate(types)]
        found = self.value(result)
        self._place_outputs(found if several else (found,))
        return self.program

    def _place_outputs(self, found: tuple[Buffer, ...]) -> None:
        """Let kernels write to the caller's memory; what is an input, a constant or a second use of a tensor is copied."""
        placed: dict[Buffer, Buffer] = {}
        for index, buffer in enumerate(found):
            if buffer.kind == "temp" and buffer not in placed:
                placed[buffer] = Buffer("output", index, buffer.nbytes)
            else:
                self.program.copies.append((placed.get(buffer, buffer), index))
        self.program.calls = [
            Call(call.kernel, tuple(placed.get(b, b) for b in call.reads), tuple(placed.get(b, b) for b in call.writes),
                tuple(name for b in call.writes for name in self.names.get(b, [])))
            for call in self.program.calls
        ]


def read_program(func: relax.Function, name: str) -> Program:
    """Return the straight line of one Relax function.

    Raises
    ------
    InternalError
        It holds something other than kernel calls and aliases, or a shape is not constant.
    """
    return _Reader(name).read(func)


def read_entries(module: tvm.IRModule) -> Mapping[str, Program]:
    """Return the programs of all Relax functions of a lowered module, ``main`` first.

    Raises
    ------
    InternalError
        There is no ``main``, a call names no PrimFunc of the module, or its arguments do not fit the PrimFunc.
    """
    functions = {var.name_hint: func for var, func in module.functions.items()}
    names = sorted(
        (name for name, func in functions.items() if isinstance(func, relax.Function)), key=lambda name: (name != "main", name)
    )
    if names[:1] != ["main"]:
        raise InternalError(f"the lowered module has no entry `main`, only {', '.join(sorted(functions)) or 'nothing'}")
    programs = {name: read_program(functions[name], name) for name in names}
    for program in programs.values():
        for call in program.calls:
            _check_call(program, call, functions.get(call.kernel))
    return programs


def _check_call(program: Program, call: Call, kernel: tvm.tirx.PrimFunc | None) -> None:
    if not isinstance(kernel, tvm.tirx.PrimFunc):
        raise InternalError(f"{program.name} calls {call.kernel}, which is no PrimFunc of the module")
    given = [buffer.nbytes for buffer in (*call.reads, *call.writes)]
    wanted = [buffer_bytes(param) for param in kernel.params]
    if given != wanted:
        raise InternalError(f"{program.name} calls {call.kernel} with tensors of {given} bytes, but its parameters take {wanted}")

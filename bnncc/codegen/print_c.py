"""A lowered PrimFunc as a C99 function: a walk over the loops, stores and expressions that the lowering leaves.

TVM's own ``c`` target is not used: its code includes TVM's headers and does not compile without warnings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

from bnncc.codegen.lower_tir import LoweredKernel
from bnncc.codegen.names import c_identifier, c_type
from bnncc.codegen.pointers import walking_pointers, written_pointers
from bnncc.errors import InternalError, UnsupportedOperator

__all__ = ["PREAMBLE", "print_function"]

PREAMBLE = (
    *("full_adder", "add_rows", "popcount32", "popcount64"),
    *("peek_uint8", "peek_uint32", "transpose32", "transpose32x4", "gather4", "load4", "spread4", "store4"),
    *("min_float", "max_float", "min_int32", "max_int32"),
)
"""Functions that a printed kernel may call; the template of the file defines those that are."""

_BINARY = {
    **{tirx.Add: "+", tirx.Sub: "-", tirx.Mul: "*", tirx.Div: "/", tirx.Mod: "%"},
    **{tirx.EQ: "==", tirx.NE: "!=", tirx.LT: "<", tirx.LE: "<=", tirx.GT: ">", tirx.GE: ">=", tirx.And: "&&", tirx.Or: "||"},
    **{tirx.BitwiseAnd: "&", tirx.BitwiseOr: "|", tirx.BitwiseXor: "^", tirx.LShift: "<<", tirx.RShift: ">>"},
}
_ORDERED = {"float32": "float", "int32": "int32"}
_FUNCTIONS = {  # LLVM's intrinsics in C99, for float32
    **{name: f"{name}f" for name in ("fabs", "floor", "ceil", "sqrt", "exp", "log", "pow", "trunc", "rint", "nearbyint")},
    "roundeven": "rintf",  # the rounding mode is to nearest, ties to even
    **{name: f"{name}f" for name in ("tanh", "round")},
}
_MATH = {
    f"tirx.{name}": f"{name}f" for name in ("exp", "log", "sqrt", "tanh", "floor", "ceil", "pow", "fabs", "erf", "sin", "cos", "nearbyint", "trunc", "round")
}


def _dtype(expr) -> str:
    return str(expr.ty.dtype)


def _constant(value: int | float, dtype: str) -> str:
    if dtype.startswith("float"):
        if math.isinf(value):
            return "(-INFINITY)" if value < 0 else "INFINITY"
        if math.isnan(value):
            return "NAN"
        text = repr(float(value)) if dtype == "float64" else str(np.float32(value))
        text = text if any(c in text for c in ".e") else f"{text}.0"
        text = text if dtype == "float64" else f"{text}f"
        return f"({text})" if value < 0 else text
    if dtype == "bool":
        return str(int(value))
    if dtype == "int32" and value == -(1 << 31):
        return "INT32_MIN"
    suffix = {"uint32": "u", "int64": "LL", "uint64": "ULL"}.get(dtype, "")
    text = f"{int(value)}{suffix}"
    if value > 9999 and dtype.startswith("uint"):
        text = f"{int(value):#x}{suffix}"
    return f"({text})" if value < 0 else text


def _addressed(body) -> set:
    """Return the buffers of which an address is taken."""
    found: set = set()

    def visit(call) -> None:
        if call.op.name == "tirx.address_of":
            found.add(call.args[0].source)

    tvm_ffi.structural_walk(body, (tvm.ir.Call, visit))
    return found


@dataclass
class _Variable:
    """A local buffer of one element: a variable, declared where it gets its first value if that can be.

    It can where no block around the assignment mentions it, as nothing is kept from one turn of a loop to the next then.
    """

    kind: str
    name: str
    place: int
    common: tuple[int, ...] | None = None
    first: int | None = None
    block: tuple[int, ...] = ()
    reads: int = 0
    values: list[tuple[int, dict[str, int]]] = field(default_factory=list)

    def read(self, blocks: tuple[int, ...]) -> None:
        """Note that it is read inside of `blocks`."""
        self.reads += 1
        self._mention(blocks)

    def _mention(self, blocks: tuple[int, ...]) -> None:
        if self.common is None:
            self.common = blocks
        while blocks[: len(self.common)] != self.common:
            self.common = self.common[:-1]

    def assign(self, blocks: tuple[int, ...], line: int, read: dict[str, int]) -> None:
        """Note that the line to be written assigns it, and how often its value reads which variables."""
        self.values.append((line, read))
        if self.common is None:
            self.first, self.block = line, blocks
        self._mention(blocks)

    def declare(self, lines: list[str]) -> None:
        """Put the declaration into the text."""
        if not self.values:
            return
        if self.first is not None and self.block == self.common:
            text = lines[self.first].lstrip()
            const = "const " if len(self.values) == 1 else ""
            lines[self.first] = f"{' ' * (len(lines[self.first]) - len(text))}{const}{self.kind} {text}"
        else:
            lines[self.place] += f"{self.kind} {self.name} = 0;"  # compilers warn of what is first assigned in some turn of a loop


class _Printer:
    def __init__(self, function: str, body):
        self.function = function
        self.lines: list[str] = []
        self.depth = 1
        self.names: dict = {}
        self.taken: set[str] = set()
        self.used: set[str] = set()
        self.variables: dict[str, _Variable] = {}
        self.blocks = (0,)
        self.opened = 0
        self.addressed, self.written = _addressed(body), written_pointers(body)

    def name(self, var, hint: str | None = None) -> str:
        if var not in self.names:
            base = unique = c_identifier(hint or var.name)
            number = 1
            while unique in self.taken:
                number += 1
                unique = f"{base}_{number}"
            self.taken.add(unique)
            self.names[var] = unique
        name = self.names[var]
        self.used.add(name)
        if name in self.variables:
            self.variables[name].read(self.blocks)
        return name

    def emit(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def expr(self, e) -> str:
        if isinstance(e, tirx.Var):
            return self.name(e)
        if isinstance(e, tvm.ir.Call) and e.op.name == "tirx.buffer_data":
            return self.name(e.args[0])
        if isinstance(e, tvm.ir.Call) and e.op.name == "tirx.address_of":
            return f"&{self.expr(e.args[0])}"
        dtype = _dtype(e)
        if isinstance(e, tirx.IntImm | tirx.FloatImm):
            return _constant(e.value, dtype)
        if isinstance(e, tvm.ir.TensorLoad):
            if self.names.get(e.source) in self.variables:
                return self.name(e.source)
            return f"{self.name(e.source)}[{self.bare(e.indices[0])}]"
        if isinstance(e, tirx.LShift) and dtype == "int32":  # shifting a negative number is undefined in C
            return f"((int32_t)((uint32_t){self.expr(e.a)} << {self.expr(e.b)}))"
        if isinstance(e, tirx.Broadcast):
            return f"spread4({self.bare(e.value)})"
        if isinstance(e, tirx.LShift | tirx.RShift) and isinstance(e.b, tirx.Broadcast):  # by one number in all words
            return f"({self.expr(e.a)} {_BINARY[type(e)]} {self.expr(e.b.value)})"
        for kind, sign in _BINARY.items():
            if isinstance(e, kind):
                return self._narrow(f"({self.expr(e.a)} {sign} {self.expr(e.b)})", dtype)
        if isinstance(e, tirx.BitwiseNot):
            return self._narrow(f"(~{self.expr(e.a)})", dtype)
        if isinstance(e, tirx.Not):
            return f"(!{self.expr(e.a)})"
        if isinstance(e, tirx.Min | tirx.Max):
            least = isinstance(e, tirx.Min)
            if dtype in _ORDERED:  # an operand may be long, and is to be evaluated once
                return f"{'min' if least else 'max'}_{_ORDERED[dtype]}({self.bare(e.a)}, {self.bare(e.b)})"
            a, b = self.expr(e.a), self.expr(e.b)
            return f"({a} {'<' if least else '>'} {b} ? {a} : {b})"
        if isinstance(e, tirx.Select):
            return f"({self.expr(e.condition)} ? {self.expr(e.true_value)} : {self.expr(e.false_value)})"
        if isinstance(e, tirx.Cast):
            if dtype == "bool":
                return f"({self.expr(e.value)} != 0)"
            return f"({c_type(dtype)}){self.expr(e.value)}"
        if isinstance(e, tvm.ir.Call):
            return self._call(e, dtype)
        raise InternalError(f"{type(e).__name__} has no form in C: {e}")

    def bare(self, e) -> str:
        """Return an expression without the parentheses around it."""
        text = self.expr(e)
        if not text.startswith("("):
            return text
        level = 0
        for i, char in enumerate(text):
            level += {"(": 1, ")": -1}.get(char, 0)
            if level == 0:
                return text[1:-1] if i == len(text) - 1 else text
        return text

    @staticmethod
    def _narrow(text: str, dtype: str) -> str:
        """C computes in int; what TensorIR wraps at 8 or 16 bits is cast back."""
        return f"(({c_type(dtype)}){text})" if dtype in ("int8", "uint8", "int16", "uint16") else text

    def _call(self, e, dtype: str) -> str:
        name = e.op.name.removeprefix("tirx.").removeprefix("prim.")
        args = list(e.args)
        if name == "popcount":
            bits = {"uint64": "popcount64"}.get(_dtype(args[0]), "popcount32")
            return f"{bits}({self.bare(args[0])})"
        if name == "if_then_else":
            return f"({self.expr(args[0])} ? {self.expr(args[1])} : {self.expr(args[2])})"
        if name == "reinterpret" and _dtype(args[0]) == dtype:
            return self.expr(args[0])
        if name in ("call_llvm_pure_intrin", "call_llvm_intrin"):
            intrinsic = tvm.get_global_func("target.llvm_get_intrinsic_name")(int(args[0].value)).removeprefix("llvm.")
            if intrinsic == "arithmetic.fence":  # -ffp-contract=off says the same
                return self.expr(args[1])
            if intrinsic in _FUNCTIONS and dtype == "float32":
                return f"{_FUNCTIONS[intrinsic]}({', '.join(self.bare(arg) for arg in args[1:])})"
            name = f"llvm.{intrinsic}"
        if name in ("call_pure_extern", "call_extern"):  # the first is what TVM lowers float functions to
            name = str(args.pop(0).value)
            if name in _MATH.values() or name in PREAMBLE:
                return f"{name}({', '.join(self.bare(arg) for arg in args)})"
        if e.op.name in _MATH and dtype == "float32":
            return f"{_MATH[e.op.name]}({', '.join(self.bare(arg) for arg in args)})"
        raise UnsupportedOperator(f"The kernel {self.function} computes {name} in {dtype}, which has no form in C yet. Compile this model for x86-64.")

    def stmt(self, s) -> None:
        if isinstance(s, tirx.SeqStmt):
            for item in s.seq:
                self.stmt(item)
        elif isinstance(s, tirx.AllocBuffer):
            self._allocate(s.buffer)
        elif isinstance(s, tirx.DeclBuffer):
            used = set(self.used)
            self.names[s.buffer] = self.expr(s.data)
            self.used = used  # a declaration is no use
        elif isinstance(s, tirx.BufferStore):
            self._store(s)
        elif isinstance(s, tirx.Bind):
            if isinstance(s.var.ty, tvm.ir.PointerType):
                self._pointer(s.var, s.value)
            else:
                self.emit(f"const {c_type(_dtype(s.var))} {self.name(s.var)} = {self.bare(s.value)};")
        elif isinstance(s, tirx.For):
            self._loop(s)
        elif isinstance(s, tirx.IfThenElse):
            self._branch(s)
        elif isinstance(s, tirx.AttrStmt):
            self.stmt(s.body)
        elif isinstance(s, tirx.Evaluate):
            if not isinstance(s.value, tirx.IntImm):
                self.emit(f"{self.bare(s.value)};")
        else:
            raise InternalError(f"{self.function}: the statement {type(s).__name__} has no form in C")

    def _pointer(self, var, value) -> None:
        const = "" if var in self.written else "const "
        self.emit(f"{const}{c_type(str(var.ty.element_type.dtype))} *{self.name(var)} = {self.bare(value)};")

    def _allocate(self, buffer) -> None:
        """Declare a local buffer; one of a single element, whose address is not taken, is a plain variable."""
        size = math.prod(int(dim) for dim in buffer.ty.shape)
        kind, name = c_type(str(buffer.ty.dtype)), self.name(buffer)  # buffers that share its memory will have its name
        if size == 1 and buffer not in self.addressed:
            self.variables[name] = _Variable(kind, name, len(self.lines))
            self.emit("")
        else:
            self.emit(f"{kind} {name}[{size}];")

    def _store(self, s) -> None:
        variable = self.variables.get(self.names.get(s.buffer))
        if variable is None:
            value = self.bare(s.value)
            self.emit(f"{self.name(s.buffer)}[{self.bare(s.indices[0])}] = {value};")
            return
        before = {name: other.reads for name, other in self.variables.items()}
        value = self.bare(s.value)
        read = {name: other.reads - before[name] for name, other in self.variables.items() if other.reads != before[name]}
        variable.assign(self.blocks, len(self.lines), read)
        self.emit(f"{variable.name} = {value};")

    def text(self) -> list[str]:
        """Return the lines, variables declared, and without those that nothing reads."""
        idle = [variable for variable in self.variables.values() if not variable.reads]
        while idle:
            variable = idle.pop()
            for line, read in variable.values:
                self.lines[line] = ""
                for name, count in read.items():
                    self.variables[name].reads -= count
                    if not self.variables[name].reads:
                        idle.append(self.variables[name])
            variable.values.clear()
        for variable in self.variables.values():
            variable.declare(self.lines)
        return [line for line in self.lines if line.strip()]

    def _block(self, head: str, body) -> None:
        self.emit(f"{head} {{")
        self._inside(body)

    def _inside(self, body) -> None:
        """Print the statements of a block."""
        self.opened += 1
        outside, self.blocks = self.blocks, (*self.blocks, self.opened)
        self.depth += 1
        self.stmt(body)
        self.depth -= 1
        self.blocks = outside

    def _loop(self, s: tirx.For) -> None:
        start, extent = s.min, s.extent
        end = self.expr(extent) if isinstance(start, tirx.IntImm) and int(start) == 0 else f"{self.expr(start)} + {self.expr(extent)}"
        var, kind = self.name(s.loop_var), c_type(_dtype(s.loop_var))
        body, walking = walking_pointers(s)
        for pointer, first, _ in walking:
            self._pointer(pointer, tirx.address_of(first))
        self._block(f"for ({kind} {var} = {self.bare(start)}; {var} < {end}; ++{var})", body)
        for pointer, _, step in walking:
            self.emit(f"    {self.name(pointer)} += {step};")
        self.emit("}")

    def _branch(self, s: tirx.IfThenElse) -> None:
        self._block(f"if ({self.bare(s.condition)})", s.then_case)
        if s.else_case is not None:
            self.emit("} else {")
            self._inside(s.else_case)
        self.emit("}")


def print_function(kernel: LoweredKernel, function: str, reads: int) -> str:
    """Return the C text of a kernel.

    Parameters
    ----------
    kernel : LoweredKernel
        Of scalar code: no vectors.
    function : str
        Name of the static C function.
    reads : int
        How many of its first parameters it only reads.

    Raises
    ------
    UnsupportedOperator
        It uses an intrinsic that C has not.
    InternalError
        It holds a vector or a node that the lowering should have replaced.
    """
    func = kernel.module[kernel.symbol]
    printer = _Printer(function, func.body)
    parameters: list[str] = []
    for position, param in enumerate(func.params):
        const = "const " if position < reads else ""
        element = c_type(str(param.ty.element_type.dtype))
        name = printer.name(param, param.name.removesuffix("_p"))
        parameters.append(f"{const}{element} *restrict {name}")
    names = [printer.names[param] for param in func.params]
    printer.used.clear()
    printer.stmt(func.body)
    unused = [f"    (void){name};" for name in names if name not in printer.used]
    lines = printer.text()
    return "\n".join([f"KERNEL void {function}({', '.join(parameters) or 'void'})", "{", *lines, *unused, "}"])

"""Relax functions are read as straight lines; whatever else they hold is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from bnncc.codegen.program import Buffer, read_entries
from bnncc.errors import InternalError
from codegen import modules
from codegen.modules import tensor


def build(body, *params: relax.Var, kernels=(modules.affine,)) -> tvm.IRModule:
    """A module whose `main` is what `body(builder, kernels, *params)` emits and returns."""
    builder = relax.BlockBuilder()
    added = [builder.add_func(kernel, kernel.attrs["global_symbol"]) for kernel in kernels]
    with builder.function("main", list(params)):
        with builder.dataflow():
            out = builder.emit_output(body(builder, added, *params))
        builder.emit_func_output(out)
    return builder.get()


def test_the_network_is_read_whole():
    programs = read_entries(modules.network_module())
    assert list(programs) == ["main", "tail"]
    main = programs["main"]
    assert [call.kernel for call in main.calls] == ["affine", "affine", "reversal_on_stack", "reversal_in_workspace", "sign_and_rest"]
    first, second, turned, again, both = main.calls
    assert first.reads == (Buffer("input", 0, 192), Buffer("constant", 0, 32), Buffer("constant", 1, 32))
    assert second.reads[0] == first.writes[0]
    # a reshape is the same buffer
    assert turned.reads == second.writes == both.reads
    # results go to the caller's memory at once
    assert again.writes == (Buffer("output", 0, 192),)
    assert both.writes == (Buffer("output", 1, 48), Buffer("output", 2, 48))
    # an input, the second use of an output, and a constant are copied
    assert [(source.kind, index) for source, index in main.copies] == [("input", 3), ("output", 4), ("constant", 5)]
    assert main.outputs[:2] == [((8, 6), "float32"), ((48,), "bool")]


@pytest.mark.parametrize(
    "alias",
    [
        lambda x: relax.op.reshape(x, (48,)),
        lambda x: relax.op.flatten(x),
        lambda x: relax.op.expand_dims(x, 0),
        lambda x: relax.op.squeeze(relax.op.expand_dims(x, 1)),
    ],
    ids=["reshape", "flatten", "expand_dims", "squeeze"],
)
def test_operators_that_move_nothing_are_free(alias):
    x = relax.Var("x", tensor(6, 8))
    program = read_entries(build(lambda builder, _, x: builder.emit(alias(x)), x))["main"]
    assert program.calls == []
    assert program.copies == [(Buffer("input", 0, 192), 0)]


def test_an_operator_that_was_not_legalized_is_refused():
    x = relax.Var("x", tensor(6, 8))
    with pytest.raises(InternalError, match=r"(?s)relax\.add|R\.add.*must be legalized"):
        read_entries(build(lambda builder, _, x: builder.emit(relax.op.add(x, x)), x))


def test_a_symbolic_dimension_is_refused():
    x = relax.Var("x", tensor(tvm.tirx.Var("n", "int64"), 8))
    with pytest.raises(InternalError, match="parameter x of main .* every dimension must be a number"):
        read_entries(build(lambda builder, _, x: x, x))


def test_a_parameter_that_is_no_tensor_is_refused():
    x = relax.Var("x", relax.ShapeType(ndim=2))
    with pytest.raises(InternalError, match="only tensors of known shape"):
        read_entries(build(lambda builder, _, x: x, x))


def test_arguments_that_do_not_fit_the_kernel_are_refused():
    x = relax.Var("x", tensor(6, 8))

    def body(builder, kernels, x):
        return builder.emit(
            relax.call_tir(kernels[0], (x, relax.const(np.zeros(7, np.float32)), relax.const(modules.BIAS)), tensor(6, 8))
        )

    with pytest.raises(InternalError, match=r"main calls affine with tensors of \[192, 28, 32, 192\] bytes"):
        read_entries(build(body, x))


def test_a_call_of_something_else_than_a_prim_func_is_refused():
    module = modules.network_module()
    module = tvm.IRModule({var: func for var, func in module.functions.items() if var.name_hint != "sign_and_rest"})
    with pytest.raises(InternalError, match="main calls sign_and_rest, which is no PrimFunc"):
        read_entries(module)


def test_a_module_without_main_is_refused():
    with pytest.raises(InternalError, match="no entry `main`, only affine"):
        read_entries(tvm.IRModule({"affine": modules.affine}))
    with pytest.raises(InternalError, match="no entry `main`, only nothing"):
        read_entries(tvm.IRModule({}))


def test_a_variable_of_another_function_is_refused():
    stranger = relax.Var("stranger", tensor(6, 8))
    x = relax.Var("x", tensor(6, 8))
    function = relax.Function([x], stranger, ret_ty=tensor(6, 8))
    with pytest.raises(InternalError, match="stranger is used before it is bound"):
        read_entries(tvm.IRModule({"main": function}))

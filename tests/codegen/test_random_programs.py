"""Random straight lines: whatever shares memory in the arena, the results are those of separate arrays."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tvm import relax
from tvm.script import tirx as T

from bnncc.codegen import TensorSpec
from bnncc.runtime import load
from codegen import modules

SIZES = (96, 200)


def kernels_for(n: int) -> dict[str, str]:
    """An elementwise kernel, one with two outputs, and one that turns its input round in 80 KB of scratch."""
    a, b, o, p = (f'{name}: T.Buffer(({n},), "uint32")' for name in "abop")
    return {
        f"both_{n}": f"({a}, {b}, {o}):\n    for i in range({n}):\n        o[i] = a[i] ^ b[{n - 1} - i]",
        f"split_{n}": f"({a}, {o}, {p}):\n    for i in range({n}):\n        o[i] = a[i] ^ T.uint32(5)\n        p[i] = a[(i + 1) % {n}]",
        f"turned_{n}": f"({a}, {o}):\n    t = T.alloc_buffer((20480,), 'uint32')\n    for i in range(20480):\n"
        f"        t[i] = a[i % {n}]\n    for i in range({n}):\n        o[i] = t[{n * 3 - 1} - i]",
    }


REFERENCE = {
    "both": lambda a, b: [a ^ b[::-1]],
    "split": lambda a: [a ^ np.uint32(5), np.roll(a, -1)],
    "turned": lambda a: [a[::-1]],
}


@pytest.mark.parametrize("seed", range(5))
def test_a_random_straight_line_is_exact(tmp_path, seed):
    rng = random.Random(seed)
    builder = relax.BlockBuilder()
    texts = {name: text for n in SIZES for name, text in kernels_for(n).items()}
    functions = {
        name: builder.add_func(modules.tvm.script.from_source(f"@T.prim_func(s_tir=True)\ndef {name}{text}\n", {"T": T}), name)
        for name, text in texts.items()
    }
    numbers = np.random.default_rng(seed)
    arrays = [numbers.integers(0, 2**32, n, dtype=np.uint32) for n in SIZES]
    params = [relax.Var(f"x{n}", modules.tensor(n, dtype="uint32")) for n in SIZES]
    alive = list(zip(params, arrays, strict=True))
    with builder.function("main", params):
        with builder.dataflow():
            for _ in range(30):
                var, array = rng.choice(alive[-6:])
                n, kind = array.size, rng.choice(list(REFERENCE))
                second = rng.choice([pair for pair in alive if pair[1].size == n])
                reads, given = ((var, second[0]), (array, second[1])) if kind == "both" else ((var,), (array,))
                results = REFERENCE[kind](*given)
                types = [modules.tensor(n, dtype="uint32") for _ in results]
                call = builder.emit(relax.call_tir(functions[f"{kind}_{n}"], reads, types if len(types) > 1 else types[0]))
                found = [builder.emit(call[i]) for i in range(len(types))] if len(types) > 1 else [call]
                shaped = [builder.emit(relax.op.reshape(builder.emit(relax.op.reshape(v, (n // 2, 2))), (n,))) for v in found]
                alive += zip(shaped, results, strict=True)
            chosen = rng.choices(alive, k=4) + alive[-1:]
            out = builder.emit_output(relax.Tuple([var for var, _ in chosen]))
        builder.emit_func_output(out)
    inputs = [TensorSpec(param.name, array.shape, "uint32") for param, array in zip(params, arrays, strict=True)]
    outputs = [TensorSpec(f"y{i}", array.shape, "uint32") for i, (_, array) in enumerate(chosen)]
    metadata = modules.emit(builder.get(), tmp_path / "out", inputs, outputs)
    found = load(tmp_path / "out")(*arrays)
    for i, (_, expected) in enumerate(chosen):
        np.testing.assert_array_equal(found[f"y{i}"], expected, err_msg=f"output {i}")
    arena = metadata["variants"][0]["entries"]["main"]
    assert arena["lower_bound_bytes"] <= arena["arena_bytes"] <= 1.1 * arena["lower_bound_bytes"]

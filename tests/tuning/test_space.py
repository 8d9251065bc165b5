from __future__ import annotations

import numpy as np
import pytest
from group_runner import CompiledGroup, group, meaning, words

from bnncc.ops import bnn
from bnncc.targets.x86 import V3, native_variant
from bnncc.tuning.search import Search
from bnncc.tuning.space import Space
from bnncc.tuning.target_key import target_key
from bnncc.tuning.task import kernel_version, workload_key


def binary_layer(name: str = "x"):
    def emit(b, x, w, thresholds, flip):
        sums = b.emit(bnn.packed_conv2d(x, w, channels=64), name)
        return bnn.pack(b.emit(bnn.quantize(sums, thresholds, flip)), channels=64)

    types = ((1, 6, 6, 1), "uint64"), ((64, 3, 3, 1), "uint64"), ((1, 64), "int32"), ((64,), "int8")
    return group(emit, *types, constants=(1, 2, 3))


def float_layer():
    from tvm.script import relax as R

    def emit(b, x, w):
        return R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO")

    return group(emit, ((1, 7, 9, 5), "float32"), ((3, 3, 5, 24), "float32"), constants=(1,))


def arrays_of(function, seed: int = 3):
    rng = np.random.default_rng(seed)
    if str(function.params[0].ty.dtype) == "float32":
        return [rng.standard_normal(tuple(int(d) for d in p.ty.shape.values)).astype(np.float32) for p in function.params]
    return [
        words(rng, (1, 6, 6), 64, 64),
        words(rng, (64, 3, 3), 64, 64),
        rng.integers(-9, 10, (1, 64)).astype(np.int32),
        rng.choice(np.array([-1, 1], np.int8), 64),
    ]


def test_names_of_variables_change_neither_workload_nor_kernel():
    one, other = Space(binary_layer("x"), V3), Space(binary_layer("another"), V3)
    assert workload_key(one.group) == workload_key(other.group) and one.untuned().kernel == other.untuned().kernel


def test_each_decision_makes_another_kernel_and_the_same_one_again():
    space = Space(binary_layer(), V3)
    untuned = space.untuned()
    versions = {p.kernel for p in space.neighbours(untuned)}
    assert len(versions) > 10
    assert Space(binary_layer(), V3).point(untuned.decisions).kernel == untuned.kernel


def test_a_decision_that_another_formulation_does_not_know_is_left_out():
    space = Space(binary_layer(), V3)
    point = space.point({"formulation": "popcount", "lookup straight": 8})
    assert point.note.startswith("popcount") and "lookup straight" not in point.decisions


@pytest.mark.parametrize("layer", [binary_layer, float_layer])
def test_every_kernel_of_a_space_computes_the_same_bits(layer, tmp_path):
    function = layer()
    space = Space(function, native_variant())
    arrays = arrays_of(function)
    untuned = CompiledGroup(function, tmp_path)(*arrays)
    for got, right in zip(untuned, meaning(function, arrays), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)
    search = Search(space)
    for point in search.propose(14):
        found = CompiledGroup(function, tmp_path, decided=point.decisions)(*arrays)
        for got, right in zip(found, untuned, strict=True):
            assert got.tobytes() == right.tobytes(), point.decisions


def test_the_target_of_a_record_tells_processors_and_features_apart():
    from dataclasses import replace

    other = replace(V3, tvm_target={**V3.tvm_target, "mattr": ["+avx512f"]})
    assert len({target_key(V3), target_key(other), target_key(replace(V3, instructions=frozenset()))}) == 3


def test_a_search_tries_the_untuned_kernel_first_and_none_twice():
    search = Search(Space(binary_layer(), V3))
    first = search.propose(1)[0]
    assert first.kernel == Space(binary_layer(), V3).untuned().kernel
    seen = [first.kernel]
    for _ in range(4):
        for point in search.propose(10):
            seen.append(point.kernel)
            search.learn(point, 1.5)
    assert len(seen) == len(set(seen)) == 41


def test_a_small_space_is_searched_whole():
    def emit(b, x):
        from tvm.script import relax as R

        return R.nn.relu(x)

    search = Search(Space(group(emit, ((1, 4, 4, 64), "float32")), V3))
    found = search.propose(100)
    assert {p.decisions["epilogue vectors"] for p in found} == {1, 2, 4} and search.propose(5) == []


def test_evolution_finds_a_good_kernel_among_thousands_in_few_trials():
    """A made-up machine: the time is a product over the answers, its optimum three changes away from the untuned kernel."""
    space = Space(binary_layer(), V3)
    search = Search(space, seed=1)

    def ratio(point) -> float:
        d = point.decisions
        parts = d.get("lookup tile") == (2, 4), d.get("lookup straight") == 8, d["epilogue vectors"] == 2, d["formulation"] != "lookup"
        return np.prod([factor for part, factor in zip(parts, (0.5, 0.8, 0.9, 3.0)) if part])

    best = 9.0
    for _ in range(16):
        for point in search.propose(4):
            best = min(best, ratio(point))
            search.learn(point, ratio(point))
    assert best == pytest.approx(0.5 * 0.8 * 0.9)


def test_a_version_changes_with_the_kernel_alone():
    from bnncc.schedules import build_kernel

    kernels = [build_kernel(binary_layer(), V3, {"lookup straight": n}).func for n in (4, 4, 8)]
    versions = [kernel_version(kernel) for kernel in kernels]
    assert versions[0] == versions[1] != versions[2]


def test_the_pixels_of_a_tile_and_the_straight_steps_of_a_popcount_are_open():
    space = Space(binary_layer(), V3)
    for formulation, name in [("lookup by pixels", "pixels of a tile"), ("popcount", "popcount steps")]:
        point = space.point({"formulation": formulation})
        choice = next(choice for choice in point.choices if choice.name == name)
        assert point.note.startswith(formulation) and len(choice.options) >= 4

"""MetaSchedule's search behind the interface of ours."""

from __future__ import annotations

import numpy as np
from group_runner import CompiledGroup, group
from test_space import binary_layer, float_layer
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.schedules import build_kernel
from bnncc.schedules.traced import TRACE, keeps_order, plain_loops
from bnncc.targets.x86 import V3, native_variant
from bnncc.tuning.search import JointSearch, Search
from bnncc.tuning.space import Space
from bnncc.tuning.traces import TraceSearch


def test_the_evolution_proposes_new_schedules_that_keep_the_order_and_goes_on_from_an_earlier_run():
    space = Space(float_layer(), V3)
    search = TraceSearch(space, plain_loops(space.group), V3, trials=24)
    found = []
    for number in range(3):
        points = search.propose(6)
        for place, point in enumerate(points):
            search.learn(point, None if place == 0 else 1 + 0.1 * number + 0.01 * place)
        found += points
    kernels = [point.kernel for point in found]
    assert len(found) >= 12 and len(set(kernels)) == len(kernels)
    assert all(keeps_order(build_kernel(space.group, V3, point.decisions).func) for point in found)

    again = TraceSearch(space, plain_loops(space.group), V3, trials=24)
    for point in found:
        again.skip(point.kernel)
        again.learn(point, 1.0)
    assert not {point.kernel for point in again.propose(6)} & set(kernels)


def test_the_evolution_is_told_of_no_kernel_before_it_was_measured():
    space = Space(float_layer(), V3)
    search = TraceSearch(space, plain_loops(space.group), V3, trials=24)
    told = []
    search._model.update = lambda context, candidates, results: told.append([result.run_secs for result in results])
    first = search.propose(99)
    assert first and search.propose(1) == [], "it waits for what it proposed"
    for point in first:
        search.learn(point, 1.0)
    assert search.propose(1) and sum(secs is not None for secs in told[-1]) == len(first)


def test_a_float_layer_with_thresholds_and_words_behind_it_is_searched_and_gives_the_same_words(tmp_path):
    def emit(b, x, w, thresholds, flip):
        sums = b.emit(R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO"))
        return bnn.pack(b.emit(bnn.quantize(sums, thresholds, flip)), channels=64)

    types = ((1, 6, 6, 3), "float32"), ((3, 3, 3, 64), "float32"), ((1, 64), "float32"), ((64,), "int8")
    space = Space(group(emit, *types, constants=(1, 2, 3)), native_variant())
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape, _ in types[:3]] + [rng.choice(np.array([-1, 1], np.int8), 64)]
    right = CompiledGroup(space.group, tmp_path)(*arrays)
    points = TraceSearch(space, plain_loops(space.group), native_variant(), trials=8).propose(3)
    assert points
    for point in points:
        (found,) = CompiledGroup(space.group, tmp_path, decided=point.decisions)(*arrays)
        assert found.tobytes() == right[0].tobytes()


class Listed:
    """A search of what it was given."""

    def __init__(self, points):
        self.points, self.learnt = list(points), []

    def propose(self, count):
        found, self.points = self.points[:count], self.points[count:]
        return found

    def learn(self, point, ratio):
        self.learnt.append(point)


def test_two_searches_share_the_trials_and_one_goes_on_where_the_other_has_no_more():
    first, second = Listed("abc"), Listed("123456789")
    joint = JointSearch([(first, str.isalpha), (second, str.isdigit)])
    assert sorted(joint.propose(4)) == sorted("ab12")
    assert sorted(joint.propose(4)) == sorted("c345")
    assert sorted(joint.propose(9)) == sorted("6789") and joint.propose(4) == []
    joint.learn("b", 0.5)
    assert first.learnt == ["b"] and second.learnt == []


def test_traces_are_no_points_of_the_generators_space():
    assert all(TRACE not in point.decisions for point in Search(Space(binary_layer(), V3)).propose(9))

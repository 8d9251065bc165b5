"""Which kernels of a space are tried next: all where they are few, else evolution guided by what XGBoost has learnt from those measured.

The spaces of generated kernels are small and categorical (tens to thousands of points, a few questions), and a point is known by its answers alone. So the
first rounds try every single change of the untuned kernel; after that each round draws children of the best kernels (one or two answers changed, or answers of
two joined), and tries those that a gradient-boosted regression of log(time) on the answers expects most of, and some at random.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bnncc.tuning.space import Point, Space

__all__ = ["JointSearch", "Search"]

_ELITE = 6
_CHILDREN = 48
_RANDOM_SHARE = 0.25
_LEAST_TO_LEARN = 12
_BARREN_ROUNDS = 40


class Search:
    """Proposes the points of a space.

    Parameters
    ----------
    space : Space
    seed : int
    """

    def __init__(self, space: Space, seed: int = 0):
        self.space = space
        self._random = random.Random(seed)
        self._seen: set[str] = set()
        self._scores: dict[str, tuple[Point, float]] = {}
        self._pending: list[Point] = [space.untuned()]
        self._expanded: set[str] = set()

    def skip(self, kernel: str) -> None:
        """Never propose a kernel: it was measured before."""
        self._seen.add(kernel)

    def propose(self, count: int) -> list[Point]:
        """Return the next points, at most `count`; none where all were proposed."""
        found: list[Point] = []
        while len(found) < count:
            if not self._pending and not self._refill():
                break
            point = self._pending.pop(0)
            if point.kernel not in self._seen:
                self._seen.add(point.kernel)
                found.append(point)
        return found

    def learn(self, point: Point, ratio: float | None) -> None:
        """Take note of what was measured: the time over the untuned one; None where the kernel failed."""
        self._scores[point.kernel] = (point, math.inf if ratio is None else ratio)

    def _refill(self) -> bool:
        """Find points that were not proposed yet; returns whether there are any."""
        ranked = sorted((entry for entry in self._scores.values() if entry[1] < math.inf), key=lambda entry: entry[1])
        if not self._expanded:
            base = self.space.untuned()
            self._expanded.add(base.kernel)
            self._pending = [point for point in self.space.neighbours(base) if point.kernel not in self._seen]
            if self._pending:
                return True
        for point, _ in ranked[:_ELITE]:  # every single change of the best kernel, once
            if point.kernel not in self._expanded:
                self._expanded.add(point.kernel)
                fresh = {p.kernel: p for p in self.space.neighbours(point) if p.kernel not in self._seen}
                if fresh:
                    self._pending = self._promising(list(fresh.values()))
                    return True
        children = self._children([point for point, _ in ranked[:_ELITE]] or [self.space.untuned()])
        self._pending = self._promising(children)
        return bool(self._pending)

    def _children(self, parents: list[Point]) -> list[Point]:
        found: dict[str, Point] = {}
        for _ in range(_BARREN_ROUNDS * 4):
            one, other = self._random.choice(parents), self._random.choice(parents)
            decisions = {choice.name: self._random.choice((one, other)).decisions.get(choice.name, choice.taken) for choice in one.choices}
            for choice in self._random.sample(one.choices, min(len(one.choices), self._random.randint(1, 3))):
                decisions[choice.name] = self._random.choice(choice.options)
            child = self.space.point(decisions)
            if child is not None and child.kernel not in self._seen:
                found[child.kernel] = child
            if len(found) >= _CHILDREN:
                break
        return list(found.values())

    def _promising(self, points: list[Point]) -> list[Point]:
        """Order points by what is expected of them; a share comes first at random."""
        predict = self._model()
        if predict is None or len(points) < 2:
            self._random.shuffle(points)
            return points
        expected = predict(points)
        ordered = [points[i] for i in np.argsort(expected)]
        chance = [point for point in ordered if self._random.random() < _RANDOM_SHARE]
        guided = [point for point in ordered if point not in chance]
        mixed = []
        while guided or chance:
            mixed += guided[:3] + chance[:1]
            guided, chance = guided[3:], chance[1:]
        return mixed

    def _model(self):
        """Return ``predict(points)``, expected log ratios; None where too little was measured, or there is no XGBoost."""
        measured = [(point, math.log(min(ratio, 8.0))) for point, ratio in self._scores.values()]
        if len(measured) < _LEAST_TO_LEARN:
            return None
        try:
            import xgboost
        except ImportError:
            return None
        columns = {name: i for i, name in enumerate(sorted({key for point, _ in measured for key in _features(point.decisions)}))}

        def table(points):
            rows = np.zeros((len(points), len(columns)), np.float32)
            for row, point in zip(rows, points, strict=True):
                for name, value in _features(point.decisions).items():
                    if name in columns:
                        row[columns[name]] = value
            return rows

        model = xgboost.XGBRegressor(n_estimators=60, max_depth=4, learning_rate=0.2, n_jobs=1, verbosity=0)
        model.fit(table([point for point, _ in measured]), np.array([score for _, score in measured], np.float32))
        return lambda points: model.predict(table(points))


class JointSearch:
    """Several searches of one task that propose in turn; where one has no more, the others go on.

    Parameters
    ----------
    parts : sequence of (searches, callable)
        Each with the test of a point whether it is of this search.
    """

    def __init__(self, parts: Sequence[tuple[object, Callable[[Point], bool]]]):
        self._parts = list(parts)
        self._turn = 0

    def skip(self, kernel: str) -> None:
        """Never propose a kernel."""
        for search, _ in self._parts:
            search.skip(kernel)

    def propose(self, count: int) -> list[Point]:
        """Return the next points, at most `count`, of as many searches as are needed; none where all were proposed."""
        order = [self._parts[(self._turn + i) % len(self._parts)][0] for i in range(len(self._parts))]
        self._turn += 1
        found: list[Point] = []
        while order and len(found) < count:
            share, more = -(-(count - len(found)) // len(order)), []
            for search in order:
                wanted = min(share, count - len(found))
                fresh = search.propose(wanted) if wanted else []
                found += fresh
                if len(fresh) == wanted:  # it may have more, should the others have less
                    more.append(search)
            order = more
        return found

    def learn(self, point: Point, ratio: float | None) -> None:
        """Tell the search that proposed a point, or would have, what was measured."""
        for search, owns in self._parts:
            if owns(point):
                search.learn(point, ratio)


def _features(decisions: Mapping[str, object]) -> dict[str, float]:
    """Return what a regression sees: numbers as they are (logarithms), other answers as flags."""
    found: dict[str, float] = {}
    for name, value in decisions.items():
        parts = value if isinstance(value, tuple) else (value,)
        for i, part in enumerate(parts):
            if isinstance(part, int | float) and not isinstance(part, bool):
                found[f"{name}[{i}]"] = math.log2(1 + abs(part))
            else:
                found[f"{name}[{i}]={part}"] = 1.0
    return found

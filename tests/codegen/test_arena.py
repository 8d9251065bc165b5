"""The arena overlaps no two tensors that are alive together, and is small."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bnncc.codegen.arena import ALIGNMENT, Lifetime, plan_arena


@st.composite
def straight_lines(draw):
    """Lifetimes such as a network has: a tensor per step, used within a few steps."""
    count = draw(st.integers(0, 25))
    sizes = st.integers(0, 5000)
    return [Lifetime(i, draw(sizes), i, min(i + draw(st.integers(0, 6)), count)) for i in range(count)]


@given(straight_lines())
@settings(max_examples=100, deadline=None)
def test_tensors_alive_together_never_overlap(lifetimes):
    arena = plan_arena(lifetimes)
    steps = range(max((item.last for item in lifetimes), default=0) + 1)
    alive = [sum(item.padded for item in lifetimes if item.first <= step <= item.last) for step in steps]
    assert arena.lower_bound == max(alive, default=0)
    assert arena.nbytes >= arena.lower_bound
    assert set(arena.offsets) == {item.key for item in lifetimes}
    for index, item in enumerate(lifetimes):
        start = arena.offsets[item.key]
        assert start % ALIGNMENT == 0
        assert 0 <= start <= start + item.nbytes <= arena.nbytes
        for other in lifetimes[:index]:
            if item.first <= other.last and other.first <= item.last:
                begin = arena.offsets[other.key]
                assert start + item.nbytes <= begin or begin + other.nbytes <= start


def test_a_chain_needs_its_two_largest_neighbours_only():
    sizes = [640, 1280, 320, 2560, 64, 64, 1920]
    arena = plan_arena([Lifetime(i, size, i, i + 1) for i, size in enumerate(sizes)])
    assert arena.nbytes == arena.lower_bound == 320 + 2560


def test_a_residual_network_stays_within_a_tenth_of_the_lower_bound():
    # blocks of three tensors, the first of which lives to the end of the block, at halving sizes
    lifetimes, step = [], 0
    for stage in range(4):
        for _ in range(4):
            size = 401408 >> stage
            lifetimes += [Lifetime(step, size, step, step + 3), Lifetime(step + 1, size // 16, step + 1, step + 2)]
            lifetimes += [Lifetime(step + 2, size // 2, step + 2, step + 3)]
            step += 3
    arena = plan_arena(lifetimes)
    assert arena.nbytes <= 1.1 * arena.lower_bound


# (KiB, first, last) of a network of logic gates between shortcuts; every greedy order leaves a quarter of the arena unused
GATES = [
    *[(512, 7, 21), (512, 9, 16), (128, 12, 14), (144, 13, 14), (128, 14, 15), (512, 15, 16), (512, 16, 20), (578, 17, 18), (128, 18, 19)],
    *[(512, 19, 20), (512, 20, 21), (1024, 21, 22), (1024, 22, 24), (512, 23, 34), (512, 24, 29), (578, 25, 26), (128, 26, 27)],
    (512, 27, 28),
    *[(512, 28, 29), (512, 29, 33), (578, 30, 31), (128, 31, 32), (512, 32, 33), (512, 33, 34), (1024, 34, 35), (1024, 35, 36)],
]


def test_where_greedy_orders_waste_memory_the_search_goes_on(monkeypatch):
    lifetimes = [Lifetime(index, 1024 * size, first, last) for index, (size, first, last) in enumerate(GATES)]
    arena = plan_arena(lifetimes)
    assert arena.nbytes <= 1.1 * arena.lower_bound
    assert plan_arena(lifetimes) == arena
    monkeypatch.setattr("bnncc.codegen.arena._ROUNDS", 0)
    assert plan_arena(lifetimes).nbytes > 1.1 * arena.lower_bound


def test_scratch_of_one_step_reuses_what_is_free_then():
    lifetimes = [Lifetime("a", 1000, 0, 1), Lifetime("b", 1000, 1, 2), Lifetime("scratch", 1000, 2, 2), Lifetime("c", 64, 2, 3)]
    arena = plan_arena(lifetimes)
    assert arena.nbytes == arena.lower_bound == 1024 + 1024 + 64


def test_no_tensor_needs_no_arena():
    arena = plan_arena([])
    assert (arena.offsets, arena.nbytes, arena.lower_bound) == ({}, 0, 0)

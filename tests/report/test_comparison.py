"""What verify counts, and how it is told."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.report.comparison import OutputComparison, TensorComparison, _channels


def row():
    return TensorComparison("section_0", "t", "Conv c", True, True)


def test_samples_add_up_channel_by_channel():
    r = row()
    differs, ties = np.zeros((1, 2, 3), bool), np.zeros((1, 2, 3), bool)
    differs[0, :, 1] = ties[0, 0, 2] = True
    for _ in range(2):
        r.add(6, differs, ties)
    assert (r.elements, r.differing, r.ties, r.ok) == (12, 4, 2, False)
    assert r.differing_by_channel == {1: 4} and r.ties_by_channel == {2: 2}


def test_ties_alone_are_no_error_but_broken_words_are():
    r = row()
    r.add(1, np.zeros((1, 1), bool), np.ones((1, 1), bool))
    assert r.ok
    r.add(1, np.zeros((1, 1), bool), np.zeros((1, 1), bool), broken_words=1)
    assert not r.ok


def test_a_scalar_has_one_channel():
    r = row()
    r.add(1, np.ones((), bool), np.zeros((), bool))
    assert r.differing_by_channel == {0: 1}


@pytest.mark.parametrize(
    "ours, theirs, same, tied, other",
    [
        ([1, 2, 3], [1, 2, 3.5], 1, 0, 0),
        ([1, 3.1, 3], [1, 3, 3], 1, 0, 0),
        ([1, 3, 3.1], [1, 3, 3], 0, 1, 0),
        ([1, 3, 3.1], [1, 3.0000002, 3], 0, 1, 0),
        ([1, 3, 3.1], [1, 3.01, 3], 0, 0, 1),
    ],
)
def test_the_class_is_the_same_a_tie_of_maxima_or_another(ours, theirs, same, tied, other):
    comparison = OutputComparison("y")
    comparison.add(np.float32([ours]), np.float32([theirs]))
    assert (comparison.rows, comparison.same_class, comparison.tied_class, comparison.other_class) == (1, same, tied, other)
    assert comparison.to_json()["other_class"] == other


def test_images_have_no_class_and_what_is_not_finite_no_difference():
    comparison = OutputComparison("y")
    comparison.add(np.float32([[[1, np.nan]]]), np.float32([[[3, np.nan]]]))
    assert comparison.rows == 0 and comparison.max_abs_difference == 2


def test_the_channels_with_the_most_come_first_and_the_rest_is_counted():
    assert _channels({i: i for i in range(1, 11)}).startswith("channel 10: 10, channel 9: 9,")
    assert _channels({i: 1 for i in range(10)}).endswith("channel 7: 1 and 2 more channels")

from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn
from bnncc.ops.repeat_channels import repeated

from .dialect import call_type, evaluate


@pytest.mark.parametrize("each, times, expected", [(1, 1, "abc"), (2, 1, "aabbcc"), (1, 2, "abcabc"), (2, 2, "aabbccaabbcc")])
def test_channels_are_repeated_one_by_one_and_as_a_whole(each, times, expected):
    x = np.array([list(b"abc")], np.int32)
    assert bytes(evaluate(bnn.repeat_channels, x, each=each, times=times)[0].astype(np.uint8)).decode() == expected
    assert repeated(np.array(["abc".index(c) for c in expected]), 3) == (each, times)


@pytest.mark.parametrize("index", [[1, 0, 2], [0, 1], [0, 0, 1, 2, 1, 2], [0, 1, 2, 0, 2, 1]])
def test_other_selections_are_no_repetition(index):
    assert repeated(np.array(index), 3) is None


def test_there_is_something_to_repeat():
    with pytest.raises(ValueError, match="0 and 2 repetitions"):
        call_type(bnn.repeat_channels, ((1, 3), "float32"), each=0, times=2)

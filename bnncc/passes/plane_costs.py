"""Up to how many pairs of bit planes a layer on small integers runs on popcounts: what was measured, by kind of processor and by what is wanted."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PlaneCosts", "SumCosts", "FEWEST_BYTES", "SCALARS", "SUMS", "VECTORS"]


@dataclass(frozen=True)
class PlaneCosts:
    """When popcounts of planes pay.

    Parameters
    ----------
    reused, single : int
        Pairs of planes at most, where several pixels share each weight and where one row of activations meets it.
    least_channels : int
        Fewer inputs or outputs of a group leave words and lanes empty.
    word_bits : int
        What inputs are rounded up to, as an empty part of a word costs as much as a filled one; 1 where it does not.
    """

    reused: int
    single: int
    least_channels: int = 1
    word_bits: int = 1

    def pay(self, pairs: int, inputs: int, outputs: int, is_reused: bool) -> bool:
        """Tell whether a layer is to run on planes.

        Parameters
        ----------
        pairs : int
            Planes of the codes times planes of the weights: that many binary layers the layer costs.
        inputs, outputs : int
            Channels of one group.
        is_reused : bool
            Whether several pixels share each weight.
        """
        if min(inputs, outputs) < self.least_channels:
            return False
        filled = -(-inputs // self.word_bits) * self.word_bits
        return pairs * filled <= (self.reused if is_reused else self.single) * inputs


VECTORS = PlaneCosts(4, 12, least_channels=16)
"""Processors with vectors.

Time of planes over time of int16 arithmetic, 3x3 layers with thresholds and the next layer's input as output (`benchmarks/bit_planes.py`; AMD EPYC, Zen 3, one
thread, machine shared with other work, medians of runs in turn):

==========  ======  ====  ====  ====  ====  ====
variant     shape   1     2     4     6     8 pairs
==========  ======  ====  ====  ====  ====  ====
v3 (AVX2)   32@28   0.32  0.41  0.74  1.01  1.15
v3          64@28   0.20  0.32  0.74  0.85  1.04
v3          128@14  0.15  0.27  0.48  0.71  0.83
v2 (SSE)    32@28   0.27  0.38  0.69  1.02  1.30
v2          64@28   0.17  0.25  0.41  0.70  0.80
==========  ======  ====  ====  ====  ====  ====

Three dense layers, one row of activations, D inputs and outputs each, ternary weights (`bnncc compile` with either limit, called from Python in turns):

====  ====  ====  ====  ========
D     4     6     8     12 pairs
====  ====  ====  ====  ========
64    0.99  --    1.01  1.03
256   0.77  0.85  0.93  0.87
1024  0.40  0.46  0.42  0.60
2048  0.03  --    --    --
====  ====  ====  ====  ========

There the weights pass through once, and planes are a fraction of their bytes (at 2048 they alone stay in the cache).

Four pairs win everywhere where weights are reused; six are even where channels are few. A binary multiply-accumulate costs about a sixth of one in int16 pairs
where lookups serve it (several pixels, filled lanes); the joining of the counts and the packing take part of that.
"""

SCALARS = PlaneCosts(5, 5, word_bits=32)
"""Cores without vectors: a word of 32 bits takes 13 to 14 instructions a pair, a product of bytes 2.3 to 2.5 (Cortex-M4, `bnncc inspect --board`)."""

FEWEST_BYTES = PlaneCosts(16, 16, word_bits=32)
"""Where flash matters more than time: a weight takes its own bits, not a byte. The counts of all pairs of a pixel lie in RAM."""


@dataclass(frozen=True)
class SumCosts:
    """When sums of four codes, looked up by the signs of weights (`schedules/code_sums.py`), pay.

    Parameters
    ----------
    bits : float
        Of codes at least, where all lanes are filled: planes of fewer are quicker.
    inputs, outputs : int
        Taps of a group's filter, and its output channels, which share the sums, at least; twice the channels where codes have two bits.
    lanes : int
        Pixels of a vector.
    """

    bits: float
    inputs: int
    outputs: int
    lanes: int

    def pay(self, bits: int, inputs: int, outputs: int, pixels: int) -> bool:
        """Tell whether a layer is to run on such sums.

        Parameters
        ----------
        bits : int
            Of its codes.
        inputs, outputs : int
            Taps and output channels of a group.
        pixels : int
            Of an image, or rows of a dense layer.
        """
        filled = pixels / (-(-pixels // self.lanes) * self.lanes)
        return bits * filled >= self.bits and inputs >= self.inputs and outputs >= self.outputs * (1 if bits > 2 else 2)


SUMS = SumCosts(1.9, 27, 32, 32)
"""x86-64.

10^9 multiply-accumulates a second of 3x3 layers with thresholds (`benchmarks/code_signs.py`; AMD EPYC, Zen 3, AVX2, one thread, machine shared with other work,
fastest of 100 runs in turns):

========  ====  ======  =====  ====
shape     bits  planes  int16  sums
========  ====  ======  =====  ====
32@28     2     149     68     122
32@28     3     87      63     108
32@28     4     61      56     88
32@28     8     36      56     74
64@28     3     126     68     175
64@28     4     85      65     149
64@28     8     49      65     125
128@28    3     159     71     304
128@28    4     113     68     263
128@28    8     62      68     167
256@14    3     254     71     278
256@14    4     186     69     249
256@14    8     98      68     196
512@7     3     238     61     264
512@7     4     182     62     311
512@7     8     100     63     190
64@32     2     199     71     324
128@16    2     238     72     409
256@16    2     369     69     474
512@8     2     390     66     484
256@14    2     372     72     290
512@7     2     342     65     277
512@4     4     178     71     176
512@4     8     92      71     94
========  ====  ======  =====  ====

Images of 28, 14, 7 and 4 pixels fill 88, 88, 77 and 50 % of the lanes.
"""

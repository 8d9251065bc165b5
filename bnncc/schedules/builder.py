"""What all schedules start from: buffers for the parameters and outputs of a group, an evaluator, and the loops over places."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from tvm import tirx

from bnncc.schedules.choices import Choices
from bnncc.schedules.evaluate import Evaluator, as_mask, turned
from bnncc.schedules.group import Group, Tensor, declare, linear_index
from bnncc.schedules.kernel import Kernel, Relayout
from bnncc.schedules.neon.masks import join_masks
from bnncc.schedules.outputs import Outputs
from bnncc.schedules.pooled import PooledWords
from bnncc.schedules.statements import Statements, const
from bnncc.targets import Variant

__all__ = ["PARALLEL_ELEMENTS", "Builder"]

# Where less is computed, a microsecond or two, the threads would wait for each other about as long.
PARALLEL_ELEMENTS = 1 << 14

# The lowering need not guard products of ours: epilogues do so themselves (elementwise.py), accumulations are to be fused.
CONTRACT = "bnncc.contract"


@dataclass
class Builder:
    """A kernel in the making.

    Parameters
    ----------
    group : Group
    variant : Variant
    choices : Choices
        Answers what the schedule leaves open.
    pool : Tensor, optional
        A maximum on the words that are the group's output, which are joined as they are made then.
    """

    group: Group
    variant: Variant
    choices: Choices = field(default_factory=Choices)
    pool: Tensor | None = None
    body: Statements = field(init=False)
    relayout: dict[Tensor, tuple[Callable, tuple[Tensor, ...]]] = field(default_factory=dict)
    buffers: dict = field(default_factory=dict)

    def __post_init__(self):
        self.body = Statements(whole_vectors=self.variant.is_source)
        flips = self._mask_flips()
        for param in self.group.params:
            self.buffers[param] = declare(param, dtype=flips.get(param))
        for param, dtype in flips.items():
            self.relayout[param] = as_mask(dtype), ()
        thresholds = self._turned_thresholds(flips)
        for param, flip in thresholds.items():
            self.relayout[param] = turned(flips[flip]), (flip,)
        self.evaluator = Evaluator(self.group, self.body, self.buffers, set(flips), set(thresholds))
        self._stored = {node: declare(self.pool or node) for node in self.group.outputs}
        self._pooled = None
        if self.pool is not None:
            (stored,) = self._stored.values()
            self._pooled = PooledWords(self.body, self.pool, stored, self._words_of(self.pool.args[1]))
            self._pooled.clear()
        self._vectors = usual = self.variant.epilogue_registers
        if not self.variant.is_scalar:
            self._vectors = self.choices.choose("epilogue vectors", usual, (1, 2, 4))
        self._evaluate(self.lanes * self._vectors)

    def _evaluate(self, lanes: int) -> None:
        """Plan the epilogue for so many elements at once."""
        join = join_masks if "addp" in self.variant.instructions else None
        self.outputs = Outputs(self.group, self._stored, lanes, self.store_word, join, wide=self._vectors > 1)

    def use_narrow_lanes(self, anchor: Tensor) -> None:
        """Evaluate as many elements at once as bytes fill a vector, where what the group makes of its anchor is bits and bytes.

        Twice as many 16-bit counts are compared and joined to one vector of bytes then, whose highest bits are gathered by one instruction.
        """
        made = self.group.nodes[self.group.nodes.index(anchor) + 1 :]
        narrow = all(np.dtype(node.dtype).itemsize == 1 or node.op in ("relax.bnn.pack", "relax.bnn.repeat_channels") for node in made)
        if narrow and not self.variant.is_scalar and self._vectors == self.variant.epilogue_registers == 1:
            self._evaluate(self.variant.lanes(8))

    @property
    def lanes(self) -> int:
        """Lanes of a vector of 32-bit elements."""
        return self.variant.lanes(32)

    def _mask_flips(self) -> dict[Tensor, str]:
        """Find the constant `flip` parameters that only quantizers of one element type read."""
        found: dict[Tensor, set[str]] = {}
        for node in self.group.nodes:
            for position, arg in enumerate(node.args):
                if isinstance(arg, Tensor) and arg in self.group.constant_params:
                    quantizes = node.op == "relax.bnn.quantize" and position == 2 and node.args[0].dtype in ("float32", "int32")
                    found.setdefault(arg, set()).add(node.args[0].dtype if quantizes else "")
        return {param: next(iter(dtypes)) for param, dtypes in found.items() if len(dtypes) == 1 and "" not in dtypes and param.dtype == "int8"}

    def _turned_thresholds(self, flips: dict[Tensor, str]) -> dict[Tensor, Tensor]:
        """Find the thresholds, one a channel, that only quantizers of one `flip` read, which can be turned with it at compile time."""
        found: dict[Tensor, set] = {}
        for node in self.group.nodes:
            for position, arg in enumerate(node.args):
                if isinstance(arg, Tensor) and arg in self.group.constant_params:
                    flip = node.args[2] if node.op == "relax.bnn.quantize" and position == 1 else None
                    found.setdefault(arg, set()).add(flip if flip in flips and flip.size == flip.shape[-1] == arg.shape[-1] else None)
        return {param: next(iter(read)) for param, read in found.items() if len(read) == 1 and None not in read}

    def _words_of(self, tensor: Tensor):
        """Return the buffer of a parameter, or of a word inside the group."""
        if tensor.constant is None:
            return self.buffers[tensor]
        buffer = self.body.local(tensor.dtype, 1, "constant")
        self.body.store(buffer, 0, const(int(tensor.constant), tensor.dtype))
        return buffer

    def store_word(self, node: Tensor, index: tuple, word) -> None:
        """Store a word of a packed output, or join it to the window that it belongs to."""
        if self._pooled is not None:
            self._pooled.store(index, word)
        else:
            self.body.store(self._stored[node], linear_index(node.shape, index), word)

    def stored(self, node: Tensor):
        """Return the buffer of an output."""
        return self._stored[node]

    def replace(self, param: Tensor, size: int, dtype: str, arrange: Callable[..., np.ndarray], reads: tuple[Tensor, ...] = ()):
        """Give a constant parameter a buffer of its own size and type, and say how its array, with those of the parameters `reads`, is rearranged."""
        if param.constant is not None:
            return self._inline(param, size, dtype, arrange)
        self.buffers[param] = declare(param, size, dtype)
        self.relayout[param] = arrange, reads
        return self.buffers[param]

    def read_at_compile_time(self, *params: Tensor) -> None:
        """Leave one element of each constant parameter that no code of the kernel reads: it went into the buffer of another one, which `replace` made."""
        for param in params:
            self.replace(param, 1, param.dtype, lambda array: array.reshape(-1)[:1])

    def _inline(self, param: Tensor, size: int, dtype: str, arrange: Callable[..., np.ndarray]):
        """Write a constant of one element, rearranged, into a local buffer: weights of a 1 x 1 convolution of one channel, for instance."""
        array = arrange(np.full(param.shape, param.constant, param.dtype))
        buffer = self.body.local(dtype, size, "constant")
        for i, element in enumerate(array.reshape(-1)):
            self.body.store(buffer, i, const(element.item(), dtype))
        return buffer

    @contextmanager
    def lead_loops(self, extents: tuple[int, ...], parallel: bool = False):
        """Open one loop an axis and yield the index; the first loop of several iterations may be `parallel`."""
        if not extents:
            yield ()
            return
        here = parallel and extents[0] > 1
        with self.evaluator.loop(extents[0], "i", parallel=here) as i, self.lead_loops(extents[1:], parallel and not here) as rest:
            yield (i, *rest)

    def write_everywhere(self) -> None:
        """Write the outputs at every place, each value evaluated on the spot."""
        *extents, channels = self.outputs.shape or (1,)
        read = [node.args[0].size for node in self.group.nodes if node.args]  # of a window more than is written
        parallel = not self.variant.is_scalar and max(extents, default=1) > 1 and max([math.prod(extents) * channels, *read]) >= PARALLEL_ELEMENTS
        with self.lead_loops(self.outputs.shape[:-1], parallel) as lead:
            self.outputs.write(self.evaluator, lead)

    def kernel(self, note: str) -> Kernel:
        """Return the finished kernel."""
        params = [self.buffers[param] for param in self.group.params] + [self._stored[node] for node in self.group.outputs]
        func = tirx.PrimFunc(params, self.body.finish()).with_attr({"global_symbol": "main", "tirx.noalias": True, CONTRACT: True})
        places = {param: i for i, param in enumerate(self.group.params)}
        relayout = {
            i: Relayout(self.relayout[param][0], tuple(map(places.get, self.relayout[param][1]))) for param, i in places.items() if param in self.relayout
        }
        return Kernel(func, relayout, note, tuple(self.choices.asked.values()))

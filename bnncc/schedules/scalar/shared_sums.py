"""Sums of signed words that several channels take, up to a sign, found once.

A channel adds or subtracts one word of each slot. Two channels that take the same words of two slots with the same sign between them, or with the opposite one
in both, need that sum once, and those among them that agree in a third slot need that once more::

    channel 0   a3 - b1 + c0            a3 - b1 ──┬── + c0             channel 0
    channel 4   b1 - a3 + c2                      ├── - c2, negated    channel 4
    channel 7   a3 - b1 - c0                      └── - c0             channel 7

The sums form a tree, grown greedily: what most channels have in common comes first. Written depth first, only the sums from the root to where one is, are
alive, so that few registers are needed. 32 channels of 3 x 3 taps of one channel take about 17 sums of two rows, instead of 32.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Channel", "SharedSum", "Term", "share_sums"]


@dataclass(frozen=True, order=True)
class Term:
    """A word of a slot, added or subtracted."""

    slot: int
    word: int
    is_minus: bool


@dataclass(frozen=True)
class Channel:
    """A sum of a channel: a shared one, negated or not, and what it alone takes."""

    number: int
    is_negated: bool
    terms: tuple[Term, ...]


@dataclass
class SharedSum:
    """A sum of several channels.

    Parameters
    ----------
    terms : tuple of Term
        What is added to the sum above it: of the root nothing, below the root two, the first of them added.
    sums : list of SharedSum
        What contains it.
    channels : list of Channel
        Those that contain it, and no sum below it.
    """

    terms: tuple[Term, ...] = ()
    sums: list[SharedSum] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)


@dataclass(frozen=True)
class _Rest:
    """What is to be added to a sum, negated or not, to make a channel's: the word and the sign of a slot, by its number."""

    number: int
    is_negated: bool
    terms: dict[int, tuple[int, bool]]

    def further(self) -> list[tuple[Term, ...]]:
        """Return what could be added to the sum for this channel: one word with its sign in the sum."""
        return [(Term(slot, word, minus != self.is_negated),) for slot, (word, minus) in self.terms.items()]

    def pairs(self) -> list[tuple[Term, ...]]:
        """Return the sums of two words that this channel, or its negation, contains."""
        pairs = itertools.combinations(sorted(self.terms.items()), 2)
        return [(Term(a, i, False), Term(b, j, minus != other)) for (a, (i, minus)), (b, (j, other)) in pairs]

    def less(self, terms: tuple[Term, ...]) -> _Rest:
        """Return what is left when these are in the sum."""
        first = terms[0]
        negated = self.terms[first.slot][1] != first.is_minus
        return _Rest(self.number, negated, {slot: term for slot, term in self.terms.items() if slot not in {term.slot for term in terms}})


def _grow(node: SharedSum, rests: list[_Rest], least: int) -> SharedSum:
    """Give a node the sums that most of its channels have in common, and then the channels that are left."""
    holders: dict[tuple[Term, ...], list[_Rest]] = defaultdict(list)
    for rest in rests if len(rests) >= least else []:
        for terms in rest.further() if node.terms else rest.pairs():
            holders[terms].append(rest)
    left = {rest.number: rest for rest in rests}
    while holders:
        for terms, held in list(holders.items()):
            holders[terms] = held = [rest for rest in held if rest.number in left]
            if len(held) < least:
                del holders[terms]
        if not holders:
            break
        terms = min(holders, key=lambda terms: (-len(holders[terms]), terms))
        held = holders.pop(terms)
        node.sums.append(_grow(SharedSum(terms), [rest.less(terms) for rest in held], least))
        for rest in held:
            del left[rest.number]
    for rest in left.values():
        terms = tuple(Term(slot, word, minus) for slot, (word, minus) in sorted(rest.terms.items()))
        node.channels.append(Channel(rest.number, rest.is_negated, terms))
    return node


def share_sums(words: np.ndarray, minus: np.ndarray, least: int = 2) -> SharedSum:
    """Return the root of the tree.

    Parameters
    ----------
    words : ndarray of int, shape (channels, slots)
        Which word of its slot a channel takes.
    minus : ndarray of bool, shape (channels, slots)
        Whether it is subtracted.
    least : int
        Of channels that have a sum in common.
    """
    rests = [_Rest(o, False, dict(enumerate(zip(map(int, row), map(bool, signs))))) for o, (row, signs) in enumerate(zip(words, minus))]
    return _grow(SharedSum(), rests, least)

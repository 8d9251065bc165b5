"""What a generator may decide one way or another: each decision is asked by name while the kernel is written, and answered by default or as told.

So the design space of a kernel is what its generator asks: a tree, as later questions depend on earlier answers. No generator knows who answers::

    widest, vectors = builder.choices.choose("tile", default=(4, 3), options=((4, 3), (6, 2)))

The default is what the cost model or rule of the generator says, and the space is explored around it (`bnncc.tuning`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnncc.errors import InternalError

__all__ = ["Choice", "Choices", "Decisions", "choose"]

Decisions = Mapping[str, object]
"""Name of a choice to the option taken: a number, a string, or a tuple of these; what is not named is left to the default."""


@dataclass(frozen=True)
class Choice:
    """A question that a generator asked.

    Parameters
    ----------
    name : str
        Unique in a kernel.
    options : tuple
        All answers, the default among them.
    default : object
        The answer without tuning.
    taken : object
        The answer that the kernel was written with.
    """

    name: str
    options: tuple
    default: object
    taken: object


class Choices:
    """Answers the questions of one kernel and remembers them.

    Parameters
    ----------
    decided : mapping, optional
        `Decisions`; lists, as JSON gives them, stand for tuples.
    strict : bool
        Whether a decision that is no option is an error; else the default is taken.
    """

    def __init__(self, decided: Decisions | None = None, strict: bool = True):
        self._strict = strict
        self._decided = {name: _as_option(value) for name, value in (decided or {}).items()}
        self.asked: dict[str, Choice] = {}

    def choose(self, name: str, default, options: Sequence):
        """Return the answer to a question.

        Parameters
        ----------
        name : str
        default : object
            The answer where nothing was decided; becomes an option where it is none yet.
        options : sequence

        Raises
        ------
        InternalError
            What was decided is no option, where that is an error, or the question was asked before with other options.
        """
        default, found = _as_option(default), dict.fromkeys(map(_as_option, options))
        options = tuple(found if default in found else [default, *found])
        taken = self._decided.get(name, default)
        if taken not in options:
            if self._strict:
                raise InternalError(f"the choice {name!r} of a kernel was decided as {taken!r}; it is one of {', '.join(map(repr, options))}")
            taken = default
        choice = Choice(name, options, default, taken)
        if self.asked.setdefault(name, choice) != choice:
            raise InternalError(f"a kernel asks for the choice {name!r} twice, with different options")
        return taken

    @property
    def taken(self) -> dict[str, object]:
        """All answers given, by name, in the order asked."""
        return {name: choice.taken for name, choice in self.asked.items()}

    @property
    def strange(self) -> tuple[str, ...]:
        """Decisions on what was never asked, where these are an error: they were made for another generator."""
        return tuple(name for name in self._decided if name not in self.asked) if self._strict else ()


def choose(choices: Choices | None, name: str, default, options: Sequence):
    """Ask `choices`; the default where nobody answers."""
    return default if choices is None else choices.choose(name, default, options)


def _as_option(value):
    return tuple(map(_as_option, value)) if isinstance(value, list | tuple) else value

"""Tells whether a topology runs, and whether this process may use it."""

import os
from typing import Any, Generic, Self, TypeVar, overload

from cachesim.errors import NotRunning

_T = TypeVar("_T")


class Running:
    """The time from the start of a topology to its end, in the process that has started it.

    Args:
        name: the topology's name.

    Attributes:
        is_over: whether the topology was stopped.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()
        self.is_over = False

    def end(self) -> None:
        """Refuse all verbs from now on."""
        self.is_over = True

    def check(self) -> None:
        """Do nothing, if the topology runs and belongs to this process.

        Call it before taking a lock: in a forked child nobody may ever release that.

        Raises:
            NotRunning: it does not.
        """
        if os.getpid() != self._pid:
            raise NotRunning(
                f"the topology {self._name!r} belongs to process {self._pid}, which this one was "
                "forked from: call its methods there, and use only clients and environment "
                "variables here"
            )
        if self.is_over:
            raise NotRunning(not_running(self._name))


class WhileRunning(Generic[_T]):
    """An attribute that an object sets when its topology starts, until `forget`.

    Reading it at other times raises NotRunning. The object has the attribute `name`.
    """

    @overload
    def __get__(self, it: None, owner: type) -> Self: ...

    @overload
    def __get__(self, it: object, owner: type) -> _T: ...

    def __get__(self, it: Any, owner: type) -> Any:
        """Raise, as nothing is set."""
        if it is None:
            return self
        raise NotRunning(not_running(it.name))


def forget(it: object) -> None:
    """Delete all attributes of an object that are WhileRunning."""
    for cls in type(it).__mro__:
        for name, attribute in vars(cls).items():
            if isinstance(attribute, WhileRunning):
                vars(it).pop(name, None)


def not_running(name: str) -> str:
    """Return what to do about a topology that does not run."""
    return (
        f"the topology {name!r} is not running: it was not started yet, or was stopped. Call "
        "`start()`, or enter the simulator as a context manager."
    )

"""Attributes that exist only while a topology runs."""

from typing import Any, Generic, Self, TypeVar, overload

from cachesim.errors import NotRunning
from cachesim.runs.registry import not_running

_T = TypeVar("_T")


class WhileRunning(Generic[_T]):
    """An attribute that an object sets when its topology starts, until `forget`.

    At other times reading it raises NotRunning. The object has the attribute `name`.
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

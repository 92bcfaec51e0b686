"""Collections of handles, by name."""

from collections.abc import Mapping
from typing import TypeVar

from cachesim.errors import UnknownName
from cachesim.faults.catalogue import unknown
from cachesim.topology import Zone

_T = TypeVar("_T")


class ByName(dict[str, _T]):
    """Handles by name, in a fixed order. A zone may be written as it is shown: `az-a`.

    Args:
        what: what they are, for errors.
    """

    def __init__(self, what: str, handles: Mapping[str, _T]) -> None:
        super().__init__(handles)
        self._what = what

    def __missing__(self, name: object) -> _T:
        for key, handle in self.items():
            if name == str(Zone(key)):
                return handle
        raise UnknownName(unknown(self._what, name, self))

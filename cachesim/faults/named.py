"""The parts of a topology as arguments: names, or what has a name. Data, no I/O."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class Named(Protocol):
    """What has a name: a node, a link, a zone, or a handle on one."""

    @property
    def name(self) -> str:
        """The name."""
        ...


OnePart = str | Named
"""One part of a topology, or its name."""
Parts = OnePart | Iterable[OnePart]
"""Parts of a topology or their names, one or several."""


def name_of(part: Any) -> Any:
    """Return the name of a part; all else as it is."""
    return part if isinstance(part, str) else getattr(part, "name", part)


def names_of(parts: Any) -> Any:
    """Return the names of one or several parts as a tuple; what has none is in it as it is.

    What can't be several, such as a number or a JSON object, is returned as it is.
    """
    one = name_of(parts)
    if isinstance(one, str):
        return (one,)
    if isinstance(one, Iterable) and not isinstance(one, Mapping | bytes):
        return tuple(map(name_of, one))
    return parts


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest known one and the list of all."""
    from difflib import get_close_matches  # slow to import, and only mistakes need it

    names = list(known)
    near = get_close_matches(str(name), names, 1)
    hint = f". Did you mean {near[0]}?" if near else ""
    return f"no {what} {name!r}: there are {', '.join(names) or 'none'}{hint}"

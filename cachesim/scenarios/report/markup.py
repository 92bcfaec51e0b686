"""HTML and SVG from values: what is text is escaped."""

from collections.abc import Iterable
from html import escape
from typing import Any

VOID = frozenset({"meta", "rect", "line", "path", "circle", "br"})
"""Elements that are written without an end tag of their own."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Markup | None | Iterable[Any]


def element(name: str, *children: Child, **attributes: Any) -> Markup:
    """Return an element.

    Args:
        children: texts, elements, and iterables of them; None is left out.
        attributes: `class_` is `class`, and `data_at` is `data-at`; None is left out.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Markup(f"<{name}{pairs}/>")
    return Markup(f"<{name}{pairs}>{joined(children)}</{name}>")


def joined(children: Child) -> Markup:
    """Return children one after the other, texts escaped."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(escape(children, quote=False))
    return Markup("".join(map(joined, children)))

"""Libraries of functions, as `FUNCTION LOAD` takes them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachesim.embedded.redis.client import Client
from cachesim.embedded.redis.globs import matcher
from cachesim.embedded.redis.scripting import Function
from cachesim.protocols.resp import Error, Pairs, Reply, Unordered, request

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

_FLAGS = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")
_NAME = re.compile(rb"[A-Za-z0-9_]+")
_WRONG_NAME = (
    "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least "
    "one character long"
)


@dataclass
class _Library:
    name: bytes
    code: bytes
    functions: list[Function]


class Functions:
    """The libraries that a node has. They are data: replicated, and kept on disk."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._libraries: dict[bytes, _Library] = {}
        self._interpreter: object = None

    def load(self, code: bytes, *, replaces: bool) -> bytes:
        """Take a library; gives its name.

        Raises:
            Error: there is something wrong with it.
        """
        self._refresh()
        name, body = _head(code)
        if name in self._libraries and not replaces:
            raise Error(f"ERR Library '{name.decode()}' already exists")
        functions = self._register(body)
        others = {
            f.name for it in self._libraries.values() if it.name != name for f in it.functions
        }
        for function in functions:
            if function.name in others:
                raise Error(f"ERR Function {function.name.decode()} already exists")
        self._libraries[name] = _Library(name, code, functions)
        return name

    def delete(self, name: bytes) -> None:
        """Remove a library.

        Raises:
            Error: there is none of that name.
        """
        if self._libraries.pop(name, None) is None:
            raise Error("ERR Library not found")

    def clear(self) -> None:
        """Remove all libraries."""
        self._libraries.clear()

    def call(
        self, client: Client, name: bytes, keys: list[bytes], argv: list[bytes], *, reads: bool
    ) -> Reply:
        """Call a function.

        Args:
            reads: whether only one that does not write may be called.

        Raises:
            Error: there is none, or it failed.
        """
        self._refresh()
        function = self.find(name)
        is_reader = "no-writes" in function.flags
        if reads and not is_reader:
            raise Error("ERR Can not execute a script with write flag using *_ro command.")
        if "no-cluster" in function.flags:
            raise Error("ERR Can not run script on cluster, 'no-cluster' flag is set.")
        return self._server.scripts.call(client, function, keys, argv, reads=is_reader)

    def find(self, name: bytes) -> Function:
        """A function.

        Raises:
            Error: there is none of that name.
        """
        for library in self._libraries.values():
            for function in library.functions:
                if function.name == name:
                    return function
        raise Error("ERR Function not found")

    def told(self, pattern: bytes | None, *, with_code: bool) -> Reply:
        """What `FUNCTION LIST` tells."""
        matches = matcher(pattern.lower()) if pattern is not None else lambda _name: True
        return [
            Pairs(
                [
                    b"library_name", library.name, b"engine", b"LUA",
                    b"functions", [_told(function) for function in library.functions],
                    *((b"library_code", library.code) if with_code else ()),
                ]
            )
            for library in self._libraries.values()
            if matches(library.name.lower())
        ]  # fmt: skip

    @property
    def counts(self) -> tuple[int, int]:
        """How many libraries there are, and functions."""
        return len(self._libraries), sum(len(it.functions) for it in self._libraries.values())

    def requests(self) -> Iterator[bytes]:
        """The requests, encoded, that make them again."""
        for library in self._libraries.values():
            yield request([b"FUNCTION", b"LOAD", b"REPLACE", library.code])

    def _register(self, body: bytes) -> list[Function]:
        functions = self._server.scripts.register(body)
        if not functions:
            raise Error("ERR No functions registered")
        names = [function.name for function in functions]
        if not all(map(_NAME.fullmatch, names)):
            raise Error(f"ERR Error registering functions: {_WRONG_NAME}")
        if len(set(names)) < len(names):
            raise Error(
                "ERR Error registering functions: ERR Function already exists in the library"
            )
        if any(function.flags - set(_FLAGS) for function in functions):
            raise Error("ERR Error registering functions: ERR unknown flag given")
        self._interpreter = self._server.scripts.interpreter
        return functions

    def _refresh(self) -> None:
        """Register all again if scripts have broken the interpreter."""
        scripts = self._server.scripts
        if self._libraries and scripts.interpreter is not self._interpreter:
            for library in self._libraries.values():
                library.functions = self._register(_head(library.code)[1])


def _told(function: Function) -> Reply:
    flags = Unordered(name for name in _FLAGS if name in function.flags)
    return Pairs([b"name", function.name, b"description", function.description, b"flags", flags])


def _head(code: bytes) -> tuple[bytes, bytes]:
    """A library's name, and its code without the first line, which says it."""
    if not code.startswith(b"#!"):
        raise Error("ERR Missing library metadata")
    line, _, rest = code.partition(b"\n")
    engine, *options = line[2:].split()
    if engine.lower() != b"lua":
        raise Error(f"ERR Engine '{engine.decode(errors='replace')}' not found")
    name = None
    for option in options:
        key, _, value = option.partition(b"=")
        if key.lower() != b"name":
            raise Error(f"ERR Invalid metadata value given: {option.decode(errors='replace')}")
        if name is not None:
            raise Error("ERR Invalid metadata value, name argument was given multiple times")
        name = value
    if name is None:
        raise Error("ERR Library name was not given")
    if not _NAME.fullmatch(name):
        raise Error(_WRONG_NAME)
    return name, b"\n" + rest

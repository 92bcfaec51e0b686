"""Libraries of functions: FUNCTION LOAD, FUNCTION LIST and FCALL."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cachesim.embedded.redis.dispatch.script_flags import NAMES
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.embedded.redis.scripting.runner import ScriptRunner
from cachesim.embedded.redis.scripting.running import Running, outcome, prepare, text_of
from cachesim.embedded.redis.scripting.worker import Worker, WorkerEnded
from cachesim.protocols.resp import Error, Pairs, Reply, Unordered, request

_NAME = re.compile(rb"[A-Za-z0-9_]+")
_WRONG_NAME = (
    "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least "
    "one character long"
)


@dataclass(frozen=True)
class Function:
    """A function that a library has registered."""

    name: bytes
    description: bytes | None
    flags: frozenset[str]


@dataclass
class _Library:
    """A library.

    Attributes:
        id: the library's id in the process for scripts.
        functions: the library's functions; None before its code has run.
        worker: the process that has run the library's code.
    """

    name: bytes
    code: bytes
    id: bytes
    functions: list[Function] | None = None
    worker: Worker | None = None


class Functions:
    """The libraries of a node, which are replicated and kept on disk like keys."""

    def __init__(self, runner: ScriptRunner, log: Callable[..., None]) -> None:
        self._runner = runner
        self._log = log
        self._libraries: dict[bytes, _Library] = {}
        self._next_id = 0

    def restore(self, code: bytes) -> bytes:
        """Add a library from the primary or from the disk; return its name.

        The library's code is run later, when it is needed.

        Raises:
            Error: the code names no library.
        """
        library = self._new(code)
        self._forget(self._libraries.get(library.name))
        self._libraries[library.name] = library
        return library.name

    async def load(self, code: bytes, *, replaces: bool) -> bytes:
        """Add a library; return its name.

        Args:
            replaces: whether a library of the same name is replaced.

        Raises:
            Error: the library is wrong.
        """
        library = self._new(code)
        if library.name in self._libraries and not replaces:
            raise Error(f"ERR Library '{library.name.decode()}' already exists")
        await self.inspect()
        former = self._libraries.get(library.name)
        others = {
            function.name.lower()
            for it in self._libraries.values()
            if it is not former
            for function in _all(it)
        }
        try:
            await self._run_code(library)
            for function in _all(library):
                if function.name.lower() in others:
                    raise Error(f"ERR Function {function.name.decode()} already exists")
        except Error:
            self._forget(library)
            raise
        self._forget(former)
        self._libraries[library.name] = library
        return library.name

    async def restore_all(self, codes: list[bytes], policy: bytes) -> None:
        """Add the libraries of a payload, or none of them.

        Args:
            policy: `flush` removes all other libraries, `replace` those of the same names,
                `append` none.

        Raises:
            Error: a library is wrong, or there is one of its name or with one of its functions.
        """
        await self.inspect()
        added: dict[bytes, _Library] = {}
        try:
            for code in codes:
                library = self._new(code)
                if library.name in added:
                    raise Error(f"ERR Library '{library.name.decode()}' already exists")
                added[library.name] = library
                await self._run_code(library)
            kept = {
                name: library
                for name, library in self._libraries.items()
                if policy == b"append" or (policy == b"replace" and name not in added)
            }
            for name in added:
                if name in kept:
                    raise Error(f"ERR Library {name.decode()} already exists")
            _check_functions([*kept.values(), *added.values()])
        except Error:
            for library in added.values():
                self._forget(library)
            raise
        for library in self._libraries.values():
            if library.name not in kept:
                self._forget(library)
        self._libraries = {**kept, **added}

    def codes(self) -> list[bytes]:
        """Return the code of each library."""
        return [library.code for library in self._libraries.values()]

    def delete(self, name: bytes) -> None:
        """Remove a library.

        Raises:
            Error: there is no such library.
        """
        library = self._libraries.pop(name, None)
        if library is None:
            raise Error("ERR Library not found")
        self._forget(library)

    def clear(self) -> None:
        """Remove all libraries."""
        for library in self._libraries.values():
            self._forget(library)
        self._libraries.clear()

    async def call(
        self,
        running: Running,
        name: bytes,
        keys: list[bytes],
        argv: list[bytes],
        *,
        reads: bool,
    ) -> Reply:
        """Call a function; return its reply.

        Args:
            reads: whether the function must have the flag `no-writes`.

        Raises:
            Error: the function failed, or may not be called.
        """
        library, function = self.find(name)
        running.name = function.name
        prepare(running, function.flags, reads=reads)
        worker = await self._runner.worker()
        if library.worker is not worker:
            await self._run_code(library)
        resp = b"%d" % running.caller.resp
        kind, *rest = (await worker.ask(resp, b"FCALL", library.id, function.name, keys, argv))[1:]
        return outcome(running, kind, rest)

    def flags(self, name: bytes) -> frozenset[str] | None:
        """Return the flags of a function; None if it is not known."""
        found = self._found(name)
        return found and found[1].flags

    def find(self, name: bytes) -> tuple[_Library, Function]:
        """Return a function by name, with its library. Case does not matter, as in Redis.

        Raises:
            Error: there is no such function.
        """
        found = self._found(name)
        if found is None:
            raise Error("ERR Function not found")
        return found

    def _found(self, name: bytes) -> tuple[_Library, Function] | None:
        name = name.lower()
        for library in self._libraries.values():
            for function in _all(library):
                if function.name.lower() == name:
                    return library, function
        return None

    @property
    def are_inspected(self) -> bool:
        """Whether the functions of all libraries are known. If not, call `inspect` first."""
        return all(library.functions is not None for library in self._libraries.values())

    async def inspect(self) -> None:
        """Run the code of the libraries whose functions are not known."""
        for library in list(self._libraries.values()):
            if library.functions is None:
                try:
                    await self._run_code(library)
                except (Error, WorkerEnded) as error:
                    name = library.name.decode()
                    self._log(f"== CRITICAL == can't load library {name}: {error}", "#")
                    library.functions = []

    def listing(self, pattern: bytes | None, *, with_code: bool) -> Reply:
        """Return the reply of `FUNCTION LIST`.

        Args:
            pattern: a glob for the names of libraries; None for all.
        """
        matches = matcher(pattern.lower()) if pattern is not None else lambda _name: True
        return [
            Pairs(
                [
                    b"library_name", library.name, b"engine", b"LUA",
                    b"functions", [_listing(function) for function in _all(library)],
                    *((b"library_code", library.code) if with_code else ()),
                ]
            )
            for library in self._libraries.values()
            if matches(library.name.lower())
        ]  # fmt: skip

    @property
    def counts(self) -> tuple[int, int]:
        """The number of libraries, and the number of functions."""
        return len(self._libraries), sum(len(_all(it)) for it in self._libraries.values())

    def requests(self) -> Iterator[bytes]:
        """Yield the encoded requests that load the libraries."""
        for library in self._libraries.values():
            yield request([b"FUNCTION", b"LOAD", b"REPLACE", library.code])

    def _new(self, code: bytes) -> _Library:
        self._next_id += 1
        return _Library(_head(code)[0], code, b"%d" % self._next_id)

    async def _run_code(self, library: _Library) -> None:
        worker = await self._runner.worker()
        answer = await worker.ask(b"2", b"LOAD", library.id, _head(library.code)[1])
        library.worker = worker
        library.functions = _registered(answer[1:])

    def _forget(self, library: _Library | None) -> None:
        if library is not None and library.worker is not None:
            library.worker.tell([b"2", b"FORGET", library.id])


def _check_functions(libraries: list[_Library]) -> None:
    """Refuse libraries with functions of the same name.

    Raises:
        Error: two have one.
    """
    seen: set[bytes] = set()
    for function in (function for library in libraries for function in _all(library)):
        if function.name.lower() in seen:
            raise Error(f"ERR Function {function.name.decode()} already exists")
        seen.add(function.name.lower())


def _all(library: _Library) -> list[Function]:
    return library.functions or []


def _registered(answer: list[bytes]) -> list[Function]:
    """Return the functions that a library's code has registered.

    Raises:
        Error: the code failed, or has registered wrong functions.
    """
    kind, *rest = answer
    if kind == b"compile":
        raise Error(f"ERR Error compiling function: {text_of(rest[0])}")
    if kind != b"ok":
        raise Error(f"ERR Error registering functions: ERR {text_of(rest[0]).removeprefix('ERR ')}")
    functions = [
        Function(
            name,
            description if has_description == b"1" else None,
            frozenset(text_of(flag).lower() for flag in flags.split(b"\0") if flag),
        )
        for name, has_description, description, flags in zip(*[iter(rest)] * 4, strict=True)
    ]
    if not functions:
        raise Error("ERR No functions registered")
    names = [function.name for function in functions]
    if not all(map(_NAME.fullmatch, names)):
        raise Error(f"ERR Error registering functions: {_WRONG_NAME}")
    if len(set(names)) < len(names):
        raise Error("ERR Error registering functions: ERR Function already exists in the library")
    if any(function.flags - set(NAMES) for function in functions):
        raise Error("ERR Error registering functions: ERR unknown flag given")
    return functions


def _listing(function: Function) -> Reply:
    flags = Unordered(name for name in NAMES if name in function.flags)
    return Pairs([b"name", function.name, b"description", function.description, b"flags", flags])


def _head(code: bytes) -> tuple[bytes, bytes]:
    """Return a library's name, and its code without the first line, which has the name."""
    if not code.startswith(b"#!"):
        raise Error("ERR Missing library metadata")
    line, end, rest = code.partition(b"\n")
    if not end:
        raise Error("ERR Invalid library metadata")
    engine, *options = line.split()
    name = None
    for option in options:
        if option[:5].lower() != b"name=":
            raise Error(f"ERR Invalid metadata value given: {option.decode(errors='replace')}")
        if name is not None:
            raise Error("ERR Invalid metadata value, name argument was given multiple times")
        name = option[5:]
    if name is None:
        raise Error("ERR Library name was not given")
    if not _NAME.fullmatch(name):
        raise Error(_WRONG_NAME)
    if engine.lower() != b"#!lua":
        raise Error(f"ERR Engine '{engine[2:].decode(errors='replace')}' not found")
    return name, b"\n" + rest

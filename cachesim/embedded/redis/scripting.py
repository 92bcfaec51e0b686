"""Lua scripts, in an interpreter that reaches nothing but the commands they call.

fakeredis's own scripting is not used: its scripts can evaluate Python, see each other's globals,
and run for ever.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from cachesim.embedded.redis.client import NO_REPLY, Client
from cachesim.embedded.redis.table import Flag
from cachesim.embedded.redis.versions import version_of
from cachesim.protocols.resp import (
    Error,
    Pairs,
    Raw,
    Reply,
    Unordered,
    Verbatim,
    double,
)

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

_LIMIT = 1.0  # seconds that a script may run; others have to wait meanwhile
_MEMORY = 64 << 20  # bytes for the interpreter
_DEEPEST = 100
_NOT_ALLOWED = "ERR This Redis command is not allowed from script"


@dataclass(frozen=True)
class Function:
    """What a library has registered.

    Attributes:
        callback: Lua's.
        surroundings: the library's global variables, Lua's.
    """

    name: bytes
    callback: object
    surroundings: object
    description: bytes | None
    flags: frozenset[str]


class Scripts:
    """The scripts that a node knows, and the interpreter that runs them."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self.known: dict[bytes, bytes] = {}
        self._runtime: Any = None
        self._run: Any = None
        self._load_library: Any = None
        self._call_function: Any = None
        self._client: Client | None = None
        self._reads_only = False

    def load(self, text: bytes) -> bytes:
        """Keep a script; gives its name.

        Raises:
            Error: it can't be compiled.
        """
        digest = _digest(text)
        if digest not in self.known:
            self._interpreter()
            body, _ = _without_shebang(text)
            problem = self._runtime.globals().check(body)
            if problem is not None:
                raise Error(f"ERR Error compiling script (new function): {_text(problem)}")
            self.known[digest] = text
        return digest

    def run(
        self, caller: Client, text: bytes, keys: list[bytes], argv: list[bytes], *, reads: bool
    ) -> Reply:
        """Run a script for a client.

        Args:
            reads: whether it may not write.

        Raises:
            Error: it failed.
        """
        if self._client is not None:
            raise Error(_NOT_ALLOWED)
        digest = self.load(text)
        body, flags = _without_shebang(text)
        table = self._runtime.table_from
        return self._guarded(
            caller,
            lambda: self._run(body, b"@user_script", table(keys), table(argv), _LIMIT),
            digest.decode(),
            "user_script",
            reads=reads or "no-writes" in flags,
        )

    def call(
        self,
        caller: Client,
        function: "Function",
        keys: list[bytes],
        argv: list[bytes],
        *,
        reads: bool,
    ) -> Reply:
        """Call a library's function for a client.

        Args:
            reads: whether it may not write.

        Raises:
            Error: it failed.
        """
        if self._client is not None:
            raise Error(_NOT_ALLOWED)
        table = self._runtime.table_from
        return self._guarded(
            caller,
            lambda: self._call_function(
                function.callback, function.surroundings, table(keys), table(argv), _LIMIT
            ),
            function.name.decode(),
            "user_function",
            reads=reads,
        )

    def register(self, body: bytes) -> "list[Function]":
        """Run a library's code; the functions that it has registered.

        Raises:
            Error: it failed.
        """
        self._interpreter()
        try:
            answer = self._load_library(body, _LIMIT)
        except self._lua_error as error:
            self._runtime = None
            raise Error(f"ERR {error}") from error
        kind, value, line = answer if len(answer) == 3 else (*answer, -1)
        if kind == b"compile":
            raise Error(f"ERR Error compiling function: {_text(value)}")
        if kind != b"ok":
            text = _text(value).removeprefix("ERR ")
            raise Error(f"ERR Error registering functions: ERR {text}")
        found = []
        for item in value.values():
            given = item[b"description"]
            flags = frozenset(flag.decode() for flag in item[b"flags"].values())
            found.append(Function(item[b"name"], item[b"callback"], line, given, flags))
        return found

    @property
    def interpreter(self) -> object:
        """The one there is now; a callback belongs to one."""
        return self._runtime

    def _guarded(
        self, caller: Client, run: Callable[[], Any], name: str, where: str, *, reads: bool
    ) -> Reply:
        client = Client(self._server, caller.user, obeyed=caller.obeyed)
        client.in_script = True
        self._client, self._reads_only = client, reads
        try:
            answer = run()
            kind, value, line = answer if len(answer) == 3 else (*answer, -1)
            if kind != b"ok":
                shown = int(line) if isinstance(line, int | float) else -1
                text = f"ERR {_text(value)}" if kind == b"error" else _text(value)
                raise Error(f"{text} script: {name}, on @{where}:{shown}.")
            return self._reply(value, client.resp, 0)
        except self._lua_error as error:
            self._runtime = None  # it may have run out of memory
            raise Error(f"ERR {error} script: {name}") from error
        finally:
            self._client = None
            caller.written_offset = max(caller.written_offset, client.written_offset)

    # --- the interpreter ----------------------------------------------------------------------

    def _interpreter(self) -> None:
        if self._runtime is not None:
            return
        import lupa.lua51 as lua  # type: ignore[import-untyped]

        def refuse(*_: object) -> object:
            raise AttributeError("scripts see no Python")

        self._lua_error = lua.LuaError
        self._runtime = lua.LuaRuntime(
            encoding=None,
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=refuse,
            max_memory=_MEMORY,
        )
        prelude = resources.files(__package__).joinpath("prelude.lua").read_bytes()
        version = version_of(self._server.config.engine)
        major, minor, patch = map(int, version.redis.split("."))
        table = self._runtime.table_from
        gives = table(
            {
                b"version": version.redis.encode(),
                b"version_number": major << 16 | minor << 8 | patch,
                b"engine": version.name.encode(),
                b"sha1hex": _digest,
                b"log": self._log,
                b"setresp": self._set_resp,
                b"acl_check": self._acl_check,
                b"json_text": _json_text,
                b"json_table": self._json_table,
                b"bit": table(_BIT),
            }
        )
        make = self._runtime.eval(
            b"function(text, ...) return loadstring(text, 'prelude')(...) end"
        )
        self._run, self._load_library, self._call_function = make(
            prelude, self._call, gives, time.monotonic
        )
        self._runtime.execute(
            b"local ls = loadstring; "
            b"for _, name in ipairs{'python','io','os','package','require','module','debug',"
            b"'dofile','loadfile','load','loadstring','newproxy','getfenv','setfenv','print'} do "
            b"_G[name] = nil end; "
            b"check = function(text) local _, problem = ls(text, '@user_script') return problem end"
        )

    def _call(self, *words: object) -> object:
        """`redis.pcall`: an error is a table."""
        client = self._client
        if client is None:
            return self._failed("ERR no script is running")
        arguments = [w if isinstance(w, bytes) else _number(w) for w in words]
        try:
            answer = self._execute(client, arguments)
        except Error as error:
            return self._failed(error.text)
        except Exception as error:
            self._server.log(f"redis.call failed: {error!r}", "#")
            return self._failed("ERR internal error")
        return self._value(answer, client.resp)

    def _execute(self, client: Client, arguments: list[bytes]) -> Reply:
        server = self._server
        executor = server.executor
        try:
            entry = executor.find(arguments)
        except Error as error:
            wrong = "wrong number" in error.text
            raise Error(
                "ERR Wrong number of args calling Redis command from script"
                if wrong
                else "ERR Unknown Redis command called from script"
            ) from None
        bits = entry.bits
        if bits & Flag.NOSCRIPT:
            raise Error(_NOT_ALLOWED)
        if bits & Flag.WRITE and self._reads_only:
            raise Error("ERR Write commands are not allowed from read-only scripts.")
        if not client.obeyed:
            if client.user is not None and entry.command not in client.allowed:
                denial = client.user.denial(entry.command, arguments)
                if denial is not None:
                    server.acl_log.add(client, denial[0], "lua", denial[2])
                    what = "command or subcommand" if denial[0] == "command" else "command"
                    raise Error(f"ERR The user executing the script can't run this {what}")
            executor.check_state(client, entry, bits)
            if bits & Flag.KEYS and not server.cluster.is_local(entry.command.keys(arguments)):
                raise Error("ERR Script attempted to access a non local key in a cluster node")
        answer = executor.call(client, entry, arguments)
        if isinstance(answer, Error):
            raise answer
        return None if answer is NO_REPLY else cast(Reply, answer)

    def _failed(self, text: str) -> object:
        return self._runtime.table_from({b"err": text.encode(errors="surrogateescape")})

    # --- values -------------------------------------------------------------------------------

    def _value(self, reply: Reply, resp: int) -> object:
        """A reply as a script has it."""
        table = self._runtime.table_from
        if reply is None:
            return None if resp == 3 else False
        if isinstance(reply, bool):
            return reply if resp == 3 else int(reply)
        if isinstance(reply, bytes):
            return reply
        if isinstance(reply, int):
            return float(reply) if abs(reply) > 2**53 else reply
        if isinstance(reply, float):
            return table({b"double": reply}) if resp == 3 else double(reply)
        if isinstance(reply, str):
            return table({b"ok": reply.encode(errors="surrogateescape")})
        if isinstance(reply, Error):
            return self._failed(reply.text)
        if isinstance(reply, Verbatim):
            return reply.text
        if isinstance(reply, Raw):
            return False
        if isinstance(reply, Pairs | dict):
            flat = (
                list(reply) if isinstance(reply, Pairs) else [w for p in reply.items() for w in p]
            )
            values = [self._value(item, resp) for item in flat]
            if resp == 3:
                pairs = zip(values[::2], values[1::2], strict=True)
                return table({b"map": table(dict(pairs))})
            return table(values)
        if isinstance(reply, Unordered) and resp == 3:
            members = {self._value(item, resp): True for item in reply}
            return table({b"set": table(members)})
        if isinstance(reply, list | tuple):
            return table([self._value(item, resp) for item in reply])
        return False if resp == 2 else None  # a null array

    def _reply(self, value: object, resp: int, depth: int) -> Reply:
        """What a script gives back, as a reply."""
        if value is None or isinstance(value, bytes):
            return value
        if isinstance(value, bool):
            return value if resp == 3 else (1 if value else None)
        if isinstance(value, int | float):
            return int(value) if abs(value) < 2**63 else -(2**63)
        if not hasattr(value, "items") or depth > _DEEPEST:
            return Error("ERR reached lua stack limit") if depth > _DEEPEST else None
        found: Any = value
        if (text := found[b"err"]) is not None and isinstance(text, bytes):
            if depth:
                return Error(_text(text))
            raise Error(_text(text))
        if (text := found[b"ok"]) is not None and isinstance(text, bytes):
            return _text(text)
        if isinstance(number := found[b"double"], int | float):
            return float(number)
        if (mapping := found[b"map"]) is not None and hasattr(mapping, "items"):
            flat = [word for pair in mapping.items() for word in pair]
            return Pairs(self._reply(word, resp, depth + 1) for word in flat)
        if (members := found[b"set"]) is not None and hasattr(members, "items"):
            return Unordered(self._reply(word, resp, depth + 1) for word in members)
        items: list[Reply] = []
        while (item := found[len(items) + 1]) is not None:
            items.append(self._reply(item, resp, depth + 1))
        return items

    # --- what scripts may ask for ---------------------------------------------------------------

    def _log(self, _level: object, text: bytes) -> None:
        self._server.log(_text(text), "#")

    def _set_resp(self, version: object) -> None:
        if self._client is not None:
            self._client.resp = 3 if version == 3 else 2

    def _acl_check(self, *words: object) -> object:
        client = self._client
        arguments = [w if isinstance(w, bytes) else _number(w) for w in words]
        try:
            entry = self._server.executor.find(arguments)
        except Error:
            return None
        user = client.user if client is not None else None
        return user is None or user.denial(entry.command, arguments) is None

    def _json_table(self, text: bytes, null: object) -> object:
        try:
            value = json.loads(text.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError) as error:
            at = getattr(error, "pos", 0) + 1
            problem = f"Expected value but found invalid token at character {at}"
            return None, problem.encode()
        return self._from_json(value, null), None

    def _from_json(self, value: Any, null: object) -> object:
        if value is None:
            return null
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if isinstance(value, list):
            return self._runtime.table_from([self._from_json(item, null) for item in value])
        if isinstance(value, dict):
            pairs = {
                key.encode("utf-8", "surrogateescape"): self._from_json(item, null)
                for key, item in value.items()
            }
            return self._runtime.table_from(pairs)
        return value if isinstance(value, bool) else float(value)


def _digest(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def _without_shebang(text: bytes) -> tuple[bytes, set[str]]:
    """A script without its first line, if that says what it is; and the flags there.

    Raises:
        Error: it says something wrong.
    """
    if not text.startswith(b"#!"):
        return text, set()
    line, _, rest = text.partition(b"\n")
    engine, *options = line[2:].decode(errors="replace").split()
    if engine.lower() != "lua":
        raise Error("ERR Could not find scripting engine '" + engine + "'")
    flags: set[str] = set()
    for option in options:
        name, _, value = option.partition("=")
        if name != "flags":
            raise Error(f"ERR Unknown lua shebang option: {option}")
        flags |= set(filter(None, value.split(",")))
    known = {"no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"}
    if flags - known:
        raise Error("ERR Unexpected flag in script shebang: " + sorted(flags - known)[0])
    return b"\n" + rest, flags


def _number(value: object) -> bytes:
    return b"%.17g" % value if isinstance(value, int | float) else b""


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


_JSON_ESCAPES = {
    **{code: f"\\u{code:04x}".encode() for code in (*range(32), 127)},
    0x22: b'\\"', 0x5C: b"\\\\", 0x2F: b"\\/", 8: b"\\b", 9: b"\\t", 10: b"\\n",
    12: b"\\f", 13: b"\\r",
}  # fmt: skip


def _json_text(text: bytes) -> bytes:
    inside = b"".join(_JSON_ESCAPES.get(code) or bytes((code,)) for code in text)
    return b'"' + inside + b'"'


def _bits(value: Any) -> int:
    number = int(value) & 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number


def _folded(fold: Callable[[int, int], int]) -> Callable[..., int]:
    def run(first: Any, *others: Any) -> int:
        result = int(first)
        for other in others:
            result = fold(result, int(other))
        return _bits(result)

    return run


_BIT: dict[bytes, Callable[..., Any]] = {
    b"tobit": _bits,
    b"bnot": lambda value: _bits(~int(value)),
    b"band": _folded(lambda a, b: a & b),
    b"bor": _folded(lambda a, b: a | b),
    b"bxor": _folded(lambda a, b: a ^ b),
    b"lshift": lambda value, by: _bits((int(value) & 0xFFFFFFFF) << (int(by) & 31)),
    b"rshift": lambda value, by: _bits((int(value) & 0xFFFFFFFF) >> (int(by) & 31)),
    b"arshift": lambda value, by: _bits(_bits(value) >> (int(by) & 31)),
    b"tohex": lambda value, digits=8: b"%0*x" % (int(digits), int(value) & 0xFFFFFFFF),
}

"""The script cache: EVAL, EVALSHA and SCRIPT LOAD."""

import hashlib

from cachesim.embedded.redis.dispatch.script_flags import flags_of_line
from cachesim.embedded.redis.scripting.runner import ScriptRunner
from cachesim.embedded.redis.scripting.running import Running, outcome, prepare, text_of
from cachesim.protocols.resp import Error, Reply


class Scripts:
    """The scripts that a node knows.

    Attributes:
        known: the scripts' texts by digest.
    """

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner = runner
        self.known: dict[bytes, bytes] = {}

    async def load(self, text: bytes) -> bytes:
        """Compile a script and add it to the cache; return its digest.

        Raises:
            Error: the script can't be compiled.
        """
        digest = digest_of(text)
        if digest not in self.known:
            body, _ = _without_shebang(text)
            worker = await self._runner.worker()
            kind, *rest = (await worker.ask(b"2", b"CHECK", body))[1:]
            if kind != b"ok":
                raise _not_compiled(rest[0])
            self.known[digest] = text
        return digest

    async def run(
        self,
        running: Running,
        text: bytes,
        keys: list[bytes],
        argv: list[bytes],
        *,
        reads: bool,
    ) -> Reply:
        """Run a script; return its reply.

        Args:
            reads: whether the script must not write.

        Raises:
            Error: the script failed.
        """
        running.name = digest = digest_of(text)
        body, flags = _without_shebang(text)
        prepare(running, flags, reads=reads)
        worker = await self._runner.worker()
        resp = b"%d" % running.caller.resp
        kind, *rest = (await worker.ask(resp, b"EVAL", body, keys, argv))[1:]
        if kind == b"compile":
            raise _not_compiled(rest[0])
        self.known[digest] = text
        return outcome(running, kind, rest)


def digest_of(text: bytes) -> bytes:
    """Return the SHA-1 of a script, 40 hex digits."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def _not_compiled(problem: bytes) -> Error:
    return Error(f"ERR Error compiling script (new function): {text_of(problem)}")


def _without_shebang(text: bytes) -> tuple[bytes, frozenset[str] | None]:
    """Return a script without its `#!` line, and the flags of that line: None if it has none.

    Raises:
        Error: the line is wrong.
    """
    if not text.startswith(b"#!"):
        return text, None
    line, end, rest = text.partition(b"\n")
    if not end:
        raise Error("ERR Invalid script shebang")
    return end + rest, flags_of_line(line)

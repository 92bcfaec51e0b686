"""`cachesim exec`: a program as if it ran in a zone."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from cachesim.cli.namespace import Confined, become
from cachesim.errors import CachesimError
from cachesim.faults.named import unknown
from cachesim.runs import env
from cachesim.runs.calls import Call
from cachesim.runs.registry import find_run
from cachesim.runs.rpc import call
from cachesim.topology import Endpoint, production

_CHUNK = 65536  # bytes
_BACKLOG = 4096  # connections that may wait to be accepted, as those of the links
_LAST = 1.0  # seconds for what a program has sent before its end, should a link hold it up
_ROUNDS = 10  # of the event loop, in which a connection that waits gets to its handler


def run(
    name: str | None,
    zone: str,
    command: Sequence[str],
    *,
    reach: Sequence[int] = (),
    by_address: bool = False,
) -> int:
    """Run a program whose addresses lead to a zone's links.

    Args:
        name: the topology's name; None: the only one.
        command: the program and its arguments.
        reach: other ports of this machine's 127.0.0.1 that the program finds there too.
        by_address: change the addresses in its variables. Else it has the addresses that everybody
            has, in a network namespace of its own.

    Returns:
        Its exit code; 128 and the signal's number, if it ended by one.

    Raises:
        CachesimError: there is no such topology or zone, or the kernel does not allow it.
    """
    zones = [it.name for it in production().zones]
    if zone not in (*zones, *map(str, production().zones)):
        raise CachesimError(unknown("zone", zone, zones))
    run = find_run(name)
    variables = run.env(secrets=True) or {}
    seen = {it["announced"]: it["seen"] for it in call(run, Call.SEEN_FROM, zone=zone).values()}
    if by_address:
        return become(command, {**os.environ, **env.placed(variables, seen)})
    ways = {Endpoint.parse(here): Endpoint.parse(there) for here, there in seen.items()}
    for it in production().zones:
        api = urlsplit(variables[env.toxiproxy(it.name)])
        at = Endpoint(api.hostname or "", api.port or 0)
        ways[at] = at
    ways |= {Endpoint("127.0.0.1", port): Endpoint("127.0.0.1", port) for port in reach}
    for at in ways:
        _check_loopback(at)
    program = Confined((at.port for at in ways), command, {**os.environ, **variables})
    to = {at.port: way for at, way in ways.items()}
    with contextlib.ExitStack() as listening:
        for listener in program.listeners.values():
            listening.enter_context(listener)
        return asyncio.run(_serve(program, to))


def _check_loopback(address: Endpoint) -> None:
    found = socket.getaddrinfo(address.host, None, socket.AF_INET)
    if not all(str(at[0]).startswith("127.") for *_, at in found):
        raise CachesimError(
            f"{address} is on another machine: a program that runs in a zone finds nodes on "
            "127.0.0.1 only. Run it on that machine"
        )


async def _serve(program: Confined, to: Mapping[int, Endpoint]) -> int:
    """Hand connections on until the program ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    sending: set[asyncio.Future[None]] = set()
    with _signals_to(program.pid):
        servers = [
            await asyncio.start_server(_Handler(to[port], sending), sock=listener, backlog=_BACKLOG)
            for port, listener in program.listeners.items()
        ]
        descriptor = os.pidfd_open(program.pid)
        try:
            loop.add_reader(descriptor, ended.set)
            program.go()
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(program.pid, 0)[1])
        # As the kernel would, hand on what the program has sent just before its end.
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        for server in servers:
            server.close()
        if sending:
            await asyncio.wait(sending, timeout=_LAST)
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _signals_to(pid: int) -> Iterator[None]:
    """Let the program decide what signals do. A terminal sends it those of keys itself."""

    def send(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        **{number: signal.signal(number, send) for number in (signal.SIGTERM, signal.SIGHUP)},
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Handler:
    """Hands a connection on to an address.

    Args:
        to: where it leads to.
        sending: has a future of each connection, until all that came from the program is handed on.
    """

    def __init__(self, to: Endpoint, sending: set[asyncio.Future[None]]) -> None:
        self._to = to
        self._sending = sending

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handed_on = asyncio.get_running_loop().create_future()
        handed_on.add_done_callback(self._sending.discard)
        self._sending.add(handed_on)

        def end(*_: object) -> None:
            if not handed_on.done():
                handed_on.set_result(None)

        # Cancelled: the program has ended.
        with contextlib.suppress(asyncio.CancelledError), contextlib.closing(writer):
            try:
                there, back = await asyncio.open_connection(self._to.host, self._to.port)
            except OSError:
                end()
                return
            back.transport.set_write_buffer_limits(0)  # what is drained is handed on
            with contextlib.closing(back):
                ways = (_pump(reader, back), _pump(there, writer))
                tasks = [asyncio.create_task(way) for way in ways]
                tasks[0].add_done_callback(end)
                done, open_ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                for task in open_:
                    task.cancel()
                if any(task.exception() for task in done):
                    # As the other side has seen it: a reset.
                    writer.transport.abort()
                    back.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()

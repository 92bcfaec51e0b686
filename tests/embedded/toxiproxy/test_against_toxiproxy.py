"""Compares the embedded Toxiproxy with a real one: calls of the API, and traffic through toxics."""

import json
import os
import random
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from email.utils import parsedate
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import (
    BOTH,
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Stream,
    Timeout,
    Toxic,
)
from tests.embedded.toxiproxy.bodies import HOST, Call, calls
from tests.embedded.toxiproxy.servers import Api, Response, binary, embedded, real

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the real one is taken out of its image"),
    pytest.mark.usefixtures("require_docker"),
]

CALLS = int(os.environ.get("CACHESIM_TEST_BODIES", "2000"))
"""The number of calls in a sequence."""

REAL, EMBEDDED = "127.0.0.2", "127.0.0.4"
"""Their hosts, which no other program uses, so that both can listen on the same ports."""

UP, DOWN = Stream.UPSTREAM, Stream.DOWNSTREAM


@pytest.fixture(scope="session")
def program(require_docker: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """The program of the real one."""
    return binary(tmp_path_factory.mktemp("toxiproxy"))


@pytest.fixture
def urls(program: Path) -> Iterator[tuple[str, str]]:
    """The APIs of a real one and of an embedded one."""
    with real(program, REAL) as theirs, embedded() as ours:
        yield theirs, ours.url


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """A stack that is closed when the test ends."""
    with ExitStack() as stack:
        yield stack


# --- the API ------------------------------------------------------------------------------------

_SLICERS = b'"error":"bad request body: slicer: '
_NEGATIVE = re.compile(rb'"error":"bad request body: [a-z_]+: \w+ must not be negative, got')
_NAME_SERVER = re.compile(rb"(lookup [^ ]+) on [^ ]+(: no such host)")
_EVERYWHERE = re.compile(rb'"listen":"\[::\]:\d+"')
_THIS_MACHINE = re.compile(rb'"listen":"127\.0\.0\.1:\d+"')
_FREE = b'"listen":"FREE"'
_LISTEN = re.compile(rb'"listen":"%b:(\d+)"' % HOST.encode())


class Pair(NamedTuple):
    """A call, and both responses."""

    call: Call
    real: Response
    ours: Response
    headers: tuple[dict[str, str], dict[str, str]]


DIFFERENCES: dict[str, Callable[[Pair], bool]] = {
    "a slicer that would crash the real one is refused": lambda p: (
        p.real.status == HTTPStatus.OK and _SLICERS in p.ours.body
    ),
    "negative attributes are refused, which the real one takes for 0 or crashes of": lambda p: (
        p.real.status == HTTPStatus.OK and bool(_NEGATIVE.search(p.ours.body))
    ),
    "no name server is asked for the address to listen on": lambda p: (
        _NAME_SERVER.sub(rb"\1\2", p.real.body) == p.ours.body
    ),
    "without an address it listens on this machine alone, not everywhere": lambda p: (
        _EVERYWHERE.sub(_FREE, p.real.body) == _THIS_MACHINE.sub(_FREE, p.ours.body)
    ),
    "a reset goes on when a proxy can't listen, and tells the first of them": lambda p: (
        p.call.path == "/reset"
        and p.real.status == p.ours.status == HTTPStatus.INTERNAL_SERVER_ERROR
    ),
}
"""The known differences, by the behaviour of the embedded one."""


def _at(host: str) -> re.Pattern[bytes]:
    """Return a pattern for a host in an address, not for a part of another host."""
    return re.compile(rb'(?<=[" ])%b(?=:)' % re.escape(host.encode()))


def changes_part(pair: Pair) -> bool:
    """Return whether the real one may have carried out a part of what it refused.

    An update of a toxic with one wrong value applies its other values, and a reset that fails stops
    at a random proxy.
    """
    refused = pair.real.status >= HTTPStatus.BAD_REQUEST
    return refused and (pair.call.path.count("/") == 4 or pair.call.path == "/reset")


def unused_ports() -> list[int]:
    """Return ports that are free on both hosts, and that the system gives to no other program."""
    ports: list[int] = []
    while len(ports) < 3:
        port = random.randrange(10_000, 32_000)
        with ExitStack() as stack, suppress(OSError):
            for host in (REAL, EMBEDDED):
                stack.enter_context(socket.socket()).bind((host, port))
            ports.append(port)
    return ports


def wipe(*apis: Api) -> None:
    """Delete all proxies."""
    for api in apis:
        for name in json.loads(api("GET", "/proxies").body):
            api("DELETE", f"/proxies/{quote(name, safe='')}")


def _compared(call: Call, headers: dict[str, str]) -> dict[str, str]:
    """Return what must be the same in the headers of both."""
    kept = dict(headers)
    if (date := kept.get("Date")) is not None:
        kept["Date"] = str(parsedate(date) is not None)
    if call.method == "HEAD":
        kept.pop("Content-Length", None)
    else:
        kept["Content-Length"] = (
            "" if "Content-Length" in kept else "none"
        )  # names differ in length
    if (number := kept.get("X-Toxiproxy-Request-Id")) is not None:
        kept["X-Toxiproxy-Request-Id"] = str(re.fullmatch("[0-9a-v]{20}", number) is not None)
    return kept


@pytest.mark.parametrize("seed", [1, 2])
def test_calls(urls: tuple[str, str], stack: ExitStack, seed: int) -> None:
    """Right and wrong calls are answered to the byte as by a real one."""
    apis = [stack.enter_context(closing(Api(url))) for url in urls]
    ports = unused_ports()
    shown = {b"0", *(b"%d" % port for port in ports)}

    def make(call: Call, api: Api, host: str) -> Response:
        there = _at(HOST).sub(host.encode(), call.body)
        status, body = api(call.method, call.path, there, call.agent)
        body = _at(host).sub(HOST.encode(), body)
        return Response(status, _LISTEN.sub(lambda m: m[0] if m[1] in shown else _FREE, body))

    seen: dict[int, int] = {}
    for number, call in enumerate(calls(seed, CALLS, [f"{HOST}:{port}" for port in (*ports, 0)])):
        if number % 200 == 0:
            wipe(*apis)
        real, ours = (
            make(call, api, host) for api, host in zip(apis, (REAL, EMBEDDED), strict=True)
        )
        theirs, own = (_compared(call, api.headers) for api in apis)
        pair = Pair(call, real, ours, (theirs, own))
        seen[pair.real.status] = seen.get(pair.real.status, 0) + 1
        if pair.real == pair.ours:
            assert theirs == own, f"call {number}: {pair}"
        if pair.real != pair.ours:
            assert any(known(pair) for known in DIFFERENCES.values()), f"call {number}: {pair}"
            wipe(*apis)
        elif changes_part(pair):
            wipe(*apis)
    assert {200, 201, 204, 400, 404, 405, 409, 500} <= seen.keys()


# --- traffic ------------------------------------------------------------------------------------

PATIENCE = 20.0  # seconds for anything that is to happen
SILENCE = 1.0  # seconds after which nothing more is expected
REQUEST, REPLY = bytes(range(256)) * 80, bytes(reversed(range(256))) * 160  # 20 and 40 KB

TOXICS: Sequence[Toxic] = (
    *(Latency(100), Bandwidth(100), SlowClose(200), Timeout(500), Timeout(0), ResetPeer(0)),
    *(ResetPeer(500), Slicer(1000, 500, 100), LimitData(0), LimitData(1000), LimitData(10**6)),
)
LASTS = {
    (Latency(100), UP): 0.1,
    (Latency(100), DOWN): 0.1,
    (Bandwidth(100), UP): 0.2,
    (Bandwidth(100), DOWN): 0.4,
    (Timeout(500), UP): 0.1,
    (Timeout(500), DOWN): 0.1,
    (ResetPeer(500), UP): 0.1,
    (ResetPeer(500), DOWN): 0.1,
}
"""The least seconds that a request and its reply take. A toxic counts from the connection on."""


class Seen(NamedTuple):
    """The input of one end of a connection.

    Attributes:
        received: bytes.
        intact: whether the input is the beginning of the data that was sent to it.
        ending: `EOF`, `reset`, or `open` if it has not ended.
    """

    received: int
    intact: bool
    ending: str


class Outcome(NamedTuple):
    """The input of both ends, and the seconds that a request and its reply took."""

    client: Seen
    server: Seen
    lasted: float


class End:
    """An end of a connection, which notes what it receives."""

    def __init__(self, sock: socket.socket, expected: bytes) -> None:
        self._sock = sock
        self._expected = expected
        self._received = bytearray()
        self._ending = "open"
        sock.settimeout(SILENCE)

    def send(self, data: bytes) -> None:
        """Send data. The other end may be closed."""
        with suppress(OSError):
            self._sock.sendall(data)

    def read(self, size: int = 2**30) -> None:
        """Read up to a number of bytes, the end, or a while without data."""
        try:
            while self._ending == "open" and len(self._received) < size:
                data = self._sock.recv(65536)
                self._received += data
                if not data:
                    self._ending = "EOF"
        except TimeoutError:
            pass
        except ConnectionResetError:
            self._ending = "reset"
        except OSError:  # it was closed by its owner
            assert self._sock.fileno() < 0

    def half_close(self) -> None:
        """Send the end."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close."""
        self._sock.close()

    @property
    def seen(self) -> Seen:
        """Return what it has received until now."""
        received = bytes(self._received)
        return Seen(len(received), self._expected.startswith(received), self._ending)


class Link:
    """A proxy of a Toxiproxy, and the server behind it."""

    def __init__(self, url: str, name: str) -> None:
        self._api = ToxiproxyClient(url, PATIENCE)
        self._name = name
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE)
        upstream = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._api.populate([{"name": name, "listen": "127.0.0.1:0", "upstream": upstream}])

    def connect(self) -> tuple[End, End]:
        """Return the client's end of a new connection, and the server's."""
        return End(self.dial(), REPLY), End(self._server.accept()[0], REQUEST)

    def dial(self) -> socket.socket:
        """Return a client's connection."""
        host, port = self._api.proxy(self._name)["listen"].split(":")
        return socket.create_connection((host, int(port)), timeout=SILENCE)

    def add(self, toxic: Toxic, stream: Stream) -> None:
        """Add the toxic."""
        self._api.add_toxic(self._name, "toxic", toxic, stream)

    def remove(self) -> None:
        """Remove the toxic."""
        self._api.remove_toxic(self._name, "toxic")

    def disable(self) -> None:
        """Close all connections and refuse new ones."""
        self._api.set_enabled(self._name, False)

    def refuse(self) -> None:
        """Stop the server behind it."""
        self._server.close()

    def close(self) -> None:
        """Close the server and all connections."""
        self._api.close()
        self._server.close()


class Scenario(NamedTuple):
    """A request, its reply, and an action afterwards.

    Attributes:
        late: whether the toxic comes when the connection is there already.
    """

    toxic: Toxic
    stream: Stream
    late: bool
    then: Callable[[Link, End, End], None]

    def play(self, url: str) -> Outcome:
        """Run it on a Toxiproxy."""
        with closing(Link(url, f"{self.toxic} {self.stream} {self.late}")) as link:
            if not self.late:
                link.add(self.toxic, self.stream)
            client, server = link.connect()
            with closing(client), closing(server):
                if self.late:
                    link.add(self.toxic, self.stream)
                began = time.monotonic()
                client.send(REQUEST)
                server.read(len(REQUEST))
                server.send(REPLY)
                client.read(len(REPLY))
                lasted = time.monotonic() - began
                self.then(link, client, server)
                client.read()
                server.read()
                return Outcome(client.seen, server.seen, lasted)

    def is_matched(self, theirs: Outcome, ours: Outcome) -> bool:
        """Return whether an outcome is that of a real one, but for the documented differences."""
        pairs = list(zip(theirs[:2], ours[:2], strict=True))
        if any(one[:2] != other[:2] for one, other in pairs):
            return False
        endings = [(one.ending, other.ending) for one, other in pairs]
        if isinstance(self.toxic, ResetPeer) and self.late:
            # A real one closes a connection that is older than the toxic.
            endings = [("reset" if o == "reset" else t, o) for t, o in endings]
        if isinstance(self.toxic, LimitData):
            # An end that sends more than gets through is reset or not, at random.
            sender = 0 if self.stream is UP else 1
            if endings[sender] in (("EOF", "reset"), ("reset", "EOF")):
                del endings[sender]
        return all(theirs == ours for theirs, ours in endings)


def nothing(link: Link, client: End, server: End) -> None:
    """Wait for data."""


def client_closes(link: Link, client: End, server: End) -> None:  # noqa: ARG001
    """Close the client."""
    client.close()


def server_closes(link: Link, client: End, server: End) -> None:  # noqa: ARG001
    """Close the server."""
    server.close()


def disable(link: Link, client: End, server: End) -> None:  # noqa: ARG001
    """Disable the proxy."""
    link.disable()


def remove(link: Link, client: End, server: End) -> None:  # noqa: ARG001
    """Remove the toxic."""
    link.remove()


@pytest.fixture(scope="module")
def both(program: Path) -> Iterator[tuple[str, str]]:
    """The APIs of a real one and of an embedded one, for all tests of traffic."""
    with real(program) as theirs, embedded() as ours:
        yield theirs, ours.url


@pytest.mark.parametrize("then", [nothing, client_closes, server_closes, disable, remove])
def test_traffic(both: tuple[str, str], then: Callable[[Link, End, End], None]) -> None:
    """Data arrives and connections end as with a real one."""
    lates = (False, True) if then is nothing else (False,)
    scenarios = [Scenario(t, s, late, then) for t in TOXICS for s in BOTH for late in lates]
    with ThreadPoolExecutor(len(scenarios)) as pool:
        played = [pool.map(partial(Scenario.play, url=url), scenarios) for url in both]
        for scenario, theirs, ours in zip(scenarios, *played, strict=True):
            assert scenario.is_matched(theirs, ours), f"{scenario}: {theirs}, {ours}"
            for outcome in (theirs, ours):
                assert outcome.lasted >= LASTS.get((scenario.toxic, scenario.stream), 0) - 0.002


@pytest.fixture
def links(both: tuple[str, str], stack: ExitStack, request: pytest.FixtureRequest) -> list[Link]:
    """Links of the real one and of the embedded one."""
    return [stack.enter_context(closing(Link(url, request.node.name))) for url in both]


def ends(links: Sequence[Link], stack: ExitStack) -> list[tuple[End, End]]:
    """A connection through each."""
    made = [link.connect() for link in links]
    for end in (end for pair in made for end in pair):
        stack.enter_context(closing(end))
    return made


def test_slow_close(links: list[Link], stack: ExitStack) -> None:
    """A close is delayed as with a real one."""
    for link in links:
        link.add(SlowClose(200), DOWN)
    for client, server in ends(links, stack):
        began = time.monotonic()
        server.close()
        client.read()
        assert client.seen == (0, True, "EOF")
        assert time.monotonic() - began >= 0.198


def test_refused_upstream(links: list[Link]) -> None:
    """A client is accepted, then closed."""
    for link in links:
        link.refuse()
        with closing(End(link.dial(), b"")) as client:
            client.read()
            assert client.seen == (0, True, "EOF")


def test_held_back(links: list[Link], stack: ExitStack) -> None:
    """Data that a rate of 0 held arrives when the toxic is removed."""
    for link, (client, server) in zip(links, ends(links, stack), strict=True):
        link.add(Bandwidth(0), UP)
        client.send(REQUEST)
        server.read(1)
        assert server.seen == (0, True, "open")
        link.remove()
        server.read(len(REQUEST))
        assert server.seen == (len(REQUEST), True, "open")


def test_half_close(links: list[Link], stack: ExitStack) -> None:
    """The real one then closes the other direction, too; the embedded one lets it go on."""
    outcomes = []
    for client, server in ends(links, stack):
        client.send(REQUEST)
        client.half_close()
        server.read()
        server.send(REPLY)
        client.read(len(REPLY))
        outcomes.append((client.seen, server.seen))
    got_request = Seen(len(REQUEST), True, "EOF")
    theirs, ours = outcomes
    assert theirs[0].received < len(REPLY)
    assert theirs[1] == got_request
    assert ours == (Seen(len(REPLY), True, "open"), got_request)


def test_connecting_to_a_stalled_link(links: list[Link]) -> None:
    """The real one accepts; with the embedded one a new connection hangs, as in a blackhole."""
    theirs, ours = links
    for link in links:
        link.add(Bandwidth(0), UP)
    theirs.dial().close()
    with pytest.raises(TimeoutError):
        ours.dial()

"""Random wrong requests for Toxiproxy's API, from a seed."""

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple
from urllib.parse import quote

from cachesim.embedded.toxiproxy.server import BODY_MAX
from cachesim.toxiproxy.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

KNOWN: tuple[tuple[str, str], ...] = (
    (
        "`listen`",
        "without a host it listens on this machine only; the only host name is `localhost`",
    ),
    (
        "negative attributes; attributes of a slicer that crash a real Toxiproxy",
        "refused with 400",
    ),
    (
        "an update of a toxic that is refused",
        "changes nothing; a real Toxiproxy applies the valid values",
    ),
    ("`/reset` when a proxy can't listen", "all others are reset"),
    ("bodies", "at most 24 KB, some hundred proxies"),
    ("half-closed connections", "the other direction goes on; a real Toxiproxy closes it"),
    ("`reset_peer`", "also resets connections that were opened before it"),
    (
        "`latency`, `bandwidth` of 0",
        "hold a connection's end, too; a real Toxiproxy lets it through when no data is before it",
    ),
    (
        "a change of a toxic",
        "data that waits waits on; a real Toxiproxy sends the first piece at once",
    ),
    (
        "`toxicity`",
        "drawn once for a connection; a real Toxiproxy draws again when a toxic is changed",
    ),
    (
        "`timeout` with a `toxicity`",
        "its removal closes the connections that it works on; a real Toxiproxy closes all",
    ),
    ("`HEAD`", "405 as in a real Toxiproxy, with `Content-Length: 0`"),
    (
        "`-config`, `-host`, `-port`, `-seed`, `LOG_LEVEL`",
        "no process is started: the address plan has the addresses, and `seed` is a setting",
    ),
    (
        "`-proxy-metrics`, `-runtime-metrics`",
        "no metrics: `/metrics` is not found, as without these options",
    ),
)
"""The known differences, which the fuzzer avoids or allows. The documentation has them too."""

UPSTREAM = "127.0.0.3:1"
"""Nothing listens there, as the calls test the API alone."""

HOST = "127.0.0.9"
"""Placeholder for the host that proxies listen on."""

_TOXICS: Sequence[Toxic] = (
    *(Latency(5, 1), Bandwidth(64), SlowClose(10), Timeout(10), ResetPeer(10)),
    *(Slicer(64, 32, 10), LimitData(512)),
)
_PROXIES = ("p", "q r", "é")
_TOXIC_NAMES = ("t", "é ü", "latency_downstream")
_METHODS = (
    *("GET", "GET", "GET", "GET", "DELETE", "DELETE", "DELETE", "POST", "POST", "PATCH", "PUT"),
    *("HEAD", "OPTIONS", "TRACE"),
)
_AGENTS = ("Mozilla/5.0 (X11; Linux)", "mozilla/5.0", "toxiproxy-cli/v2.12.0 linux/amd64", "")
_NUMBERS = (0, 1, -1, 5, 64, 1.5, 2**31, 2**63 - 1, 2**63, 10**30)
_SHARES = (0, 1, 0.5, 0.1, 1e-7, 1e21, 3.4e38, 1e39, 16777217, 0.30000001)
_ODD: Sequence[object] = (
    "x",
    "",
    None,
    True,
    False,
    [],
    {},
    [1],
    {"a": 1},
    *_NUMBERS,
    "\ud800",
    "<&>\u2028",
    "\x7f",
)
_SNIPPETS = (
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u00", b"\\ud800", b"\\x", b"null"),
    *(b"true", b"tru", b"-", b"-0", b"01", b"1.", b"1e", b"1e5", b".5", b"\x00", b"\n", b"\xff"),
    *(b"\xc3", b"\xc3\xa9", b"\xe2\x80\xa8", b" ", b"\xef\xbb\xbf", b"NaN", b"'", b"\x7f", b"\xa0"),
)


class Call(NamedTuple):
    """A call of the API."""

    method: str
    path: str
    body: bytes
    agent: str = "test"


def calls(seed: int, count: int, listen: Sequence[str]) -> Iterator[Call]:
    """Yield right and wrong calls, to be made one after the other.

    Args:
        listen: addresses that proxies may listen on.
    """
    return _Calls(Random(seed), listen).some(count)


class _Calls:
    def __init__(self, rng: Random, listen: Sequence[str]) -> None:
        self._rng = rng
        self._listen = listen

    def some(self, count: int) -> Iterator[Call]:
        makers = (self._create, self._populate, self._update, self._add, self._change, self._plain)
        weights = (4, 2, 3, 6, 4, 3)
        for make in self._rng.choices(makers, weights, k=count):
            call = make()
            yield call._replace(agent=self._rng.choice(_AGENTS)) if self._once_in(20) else call

    def _create(self) -> Call:
        return Call("POST", "/proxies", self._body(self._spec()))

    def _populate(self) -> Call:
        specs: object = [self._spec() for _ in range(self._rng.randrange(4))]
        if self._once_in(20):
            specs = self._rng.choice(_ODD)
        return Call("POST", "/populate", self._body(specs))

    def _update(self) -> Call:
        fields = self._spec()
        kept = {name: value for name, value in fields.items() if self._once_in(2)}
        return Call(self._rng.choice(("POST", "PATCH")), self._path(), self._body(kept))

    def _add(self) -> Call:
        toxic = self._rng.choice(_TOXICS)
        fields: dict[str, object] = {
            "type": "noop" if self._once_in(20) else toxic.type,
            "attributes": self._attributes(toxic),
        }
        if self._once_in(2):
            fields["name"] = self._rng.choice(_TOXIC_NAMES)
        if self._once_in(2):
            fields["stream"] = self._rng.choice(("upstream", "downstream", "Upstream", "DOWN"))
        if self._once_in(2):
            fields["toxicity"] = self._rng.choice(_SHARES)
        return Call("POST", f"{self._path()}/toxics", self._body(fields))

    def _change(self) -> Call:
        fields: dict[str, object] = {"attributes": self._attributes(self._rng.choice(_TOXICS))}
        if self._once_in(2):
            fields["toxicity"] = self._rng.choice(_SHARES)
        if self._once_in(8):  # what can't be changed
            fields |= {"name": "new", "type": "timeout", "stream": "upstream"}
        method = self._rng.choice(("POST", "PATCH"))
        return Call(method, self._toxic_path(), self._body(fields))

    def _plain(self) -> Call:
        """A call without a body, perhaps of an unknown path."""
        path = self._rng.choice(
            (
                *("/proxies", "/version", "/reset", "/populate", "/", "/metrics", "/proxies/"),
                *(self._path() for _ in range(4)),
                *(self._toxic_path() for _ in range(4)),
                f"{self._path()}/toxics",
                *(f"{self._path()}/nothing", f"{self._path()}/../p", "//proxies", "/./version//"),
            )
        )
        return Call(self._rng.choice(_METHODS), path, b"")

    def _path(self) -> str:
        name = self._rng.choice(_PROXIES) if not self._once_in(20) else "nobody"
        return f"/proxies/{_quoted(name)}"

    def _toxic_path(self) -> str:
        return f"{self._path()}/toxics/{_quoted(self._rng.choice(_TOXIC_NAMES))}"

    def _spec(self) -> dict[str, object]:
        spec: dict[str, object] = {
            "name": self._rng.choice(_PROXIES),
            "listen": self._rng.choice(self._listen),
            "upstream": UPSTREAM,
        }
        if self._once_in(3):
            spec["enabled"] = self._once_in(2)
        return spec

    def _attributes(self, toxic: Toxic) -> object:
        attributes: dict[str, object] = dict(toxic.attributes)
        for name in attributes:
            if self._once_in(4):
                attributes[name] = self._rng.choice(_NUMBERS)
        return attributes

    def _body(self, value: object) -> bytes:
        """Return the value, or a changed one."""
        if self._once_in(3):
            value = self._with_something_odd(value)
        text = json.dumps(value, ensure_ascii=self._once_in(2))
        body = text.encode("utf-8", "surrogatepass")
        if self._once_in(20):
            body = body.replace(b'"name"', b'"NAME"').replace(b'"type"', b'"tYpe"')
        if self._once_in(4):
            body = self._mutated(body)
        return body

    def _with_something_odd(self, value: object) -> object:
        """Replace one value somewhere in it."""
        if isinstance(value, dict) and value and not self._once_in(10):
            key = self._rng.choice(sorted(value))
            if key == "listen":  # an odd one asks a name server, or listens for everybody
                return value
            return value | {key: self._with_something_odd(value[key])}
        if isinstance(value, list) and value and not self._once_in(10):
            at = self._rng.randrange(len(value))
            return [*value[:at], self._with_something_odd(value[at]), *value[at + 1 :]]
        return self._rng.choice(_ODD)

    def _mutated(self, body: bytes) -> bytes:
        """Damage its syntax or its content."""
        for _ in range(self._rng.randrange(1, 3)):
            at = self._rng.randrange(len(body) + 1)
            match self._rng.randrange(4):
                case 0:
                    body = body[:at]
                case 1:
                    body = body[:at] + body[at + self._rng.randrange(1, 6) :]
                case 2:
                    body = body[:at] + self._rng.choice(_SNIPPETS) + body[at:]
                case 3:
                    body += self._rng.choice(_SNIPPETS)
        return body

    def _once_in(self, times: int) -> bool:
        return self._rng.randrange(times) == 0


def _quoted(name: str) -> str:
    return quote(name, safe="")


def hostile(seed: int, count: int) -> Iterator[Call]:
    """Yield calls with bodies that are slow to read or take much memory."""
    rng = Random(seed)
    paths = ("/proxies", "/populate", "/proxies/p", "/proxies/p/toxics", "/proxies/p/toxics/t")
    for _ in range(count):
        size = int(BODY_MAX ** rng.random())
        body = rng.choice((_random_bytes, _nested, _repeated, _many))(rng, size)
        if rng.randrange(2):
            template = rng.choice((b'{"name":%b}', b'{"attributes":{"latency":%b}}', b"[%b]"))
            body = template % body
        yield Call("POST", rng.choice(paths), body[:BODY_MAX])


def _random_bytes(rng: Random, size: int) -> bytes:
    return rng.randbytes(size)


def _nested(rng: Random, size: int) -> bytes:
    opening = rng.choice((b"[", b'{"a":', b'{"attributes":', b"[{},", b'[{"name":'))
    depth = size // len(opening)
    closing = rng.choice((b"", b"]" * depth, b"}" * depth))
    return opening * depth + rng.choice((b"", b"0")) + closing


def _repeated(rng: Random, size: int) -> bytes:
    """Return a string, a number or rubbish that repeats one thing."""
    piece = rng.choice((*_SNIPPETS, b"9", b"\\\\", b"\\n", b"\\ud83d\\ude00", b"\xf0\x9f\x98\x80"))
    text = piece * (size // len(piece))
    return rng.choice((b"%b", b'"%b"', b'"%b', b"1%be5", b"-0.%b", b"1e%b")) % text


def _many(rng: Random, size: int) -> bytes:
    """Return an array or an object of many values."""
    item = rng.choice(
        (
            *(b"0", b'""', b"null", b"{}", b'"name":"p"', b'"latency":1', b'"toxicity":1e-9'),
            *(b'"attributes":{"rate":1}', b'{"name":"p","upstream":"127.0.0.3:1","enabled":false}'),
            b'{"name":"p","upstream":"x"}',
        )
    )
    items = b",".join([item] * (size // (len(item) + 1)))
    return rng.choice((b"[%b]", b"{%b}")) % items


_REQUESTS = (
    b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /reset HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
    b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
)
_WORDS = (
    *(
        b"GET",
        b"HEAD",
        b"CONNECT",
        b"OPTIONS",
        b" ",
        b":",
        b"/",
        b"*",
        b"%zz",
        b"\r\n",
        b"\r\n\r\n",
    ),
    *(b"\n", b"\0", b"\xff", b"Host: x", b"Content-Length: 2", b"Content-Length: -1", b"{}"),
    *(b"Transfer-Encoding: chunked", b"2\r\n{}\r\n", b"0\r\n\r\n", b"Expect: 100-continue"),
    *(
        b"Connection: close",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"HTTP/1.0",
        b"HTTP/2.0",
    ),
    *(b"Trailer: x", b"User-Agent: Mozilla/5.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
)


def conversations(seed: int, count: int) -> Iterator[list[bytes]]:
    """Yield input for connections, in pieces: requests, some of them damaged."""
    rng = Random(seed)
    for _ in range(count):
        data = b"".join(rng.choices(_REQUESTS, k=rng.randrange(1, 4)))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(data) + 1)
            word = rng.choice((b"", b"\r\n")) + rng.choice(_WORDS)
            data = data[:at] + rng.choice((word, b"")) + data[at + rng.choice((0, 0, 1, 9)) :]
        size = rng.choice((7, 100, len(data) or 1))
        yield [data[at : at + size] for at in range(0, len(data), size)]

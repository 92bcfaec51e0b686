"""Toxiproxy's HTTP API of the embedded Toxiproxy, and its clients."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from cachesim.embedded.toxiproxy.in_process import LocalToxiproxy
from cachesim.errors import ToxiproxyError
from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import Bandwidth, Latency, Slicer, Stream
from tests.embedded.toxiproxy.servers import Api, Embedded, embedded

NOWHERE = "127.0.0.1:1"
UP, DOWN = Stream.UPSTREAM, Stream.DOWNSTREAM


@pytest.fixture
def toxiproxy() -> Iterator[Embedded]:
    """An embedded Toxiproxy."""
    with embedded() as toxiproxy:
        yield toxiproxy


@pytest.fixture
def api(toxiproxy: Embedded) -> Iterator[Api]:
    """A client of its API."""
    api = Api(toxiproxy.url)
    yield api
    api.close()


@pytest.fixture
def listen(api: Api) -> str:
    """The address of a proxy `p`, with a toxic `t`."""
    made = api("POST", "/proxies", _body(name="p", upstream=NOWHERE))
    toxic = _body(name="t", type="latency", attributes={"latency": 5})
    assert api("POST", "/proxies/p/toxics", toxic).status == HTTPStatus.OK
    return str(json.loads(made.body)["listen"])


def _body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _proxy(listen: str, *toxics: object, enabled: bool = True) -> dict[str, object]:
    return {
        "name": "p",
        "listen": listen,
        "upstream": NOWHERE,
        "enabled": enabled,
        "Logger": {},
        "toxics": list(toxics),
    }


def _toxic(latency: int = 5, jitter: int = 0, toxicity: float = 1) -> dict[str, object]:
    return {
        "attributes": {"latency": latency, "jitter": jitter},
        "name": "t",
        "type": "latency",
        "stream": "downstream",
        "toxicity": toxicity,
    }


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) == 0


# --- every route --------------------------------------------------------------------------------


def test_version(api: Api) -> None:
    """The version has the form of a real one, with its newline."""
    assert api("GET", "/version") == (200, b'{"version": "2.12.0"}\n')


def test_no_proxies(api: Api) -> None:
    """Without proxies the index is an empty object."""
    assert api("GET", "/proxies") == (200, b"{}")


def test_create(api: Api) -> None:
    """A created proxy listens, on a free port by default."""
    status, body = api("POST", "/proxies", _body(name="p", upstream=NOWHERE))
    listen = json.loads(body)["listen"]
    assert (status, json.loads(body)) == (201, _proxy(listen))
    assert _listens(listen)


def test_create_disabled(api: Api) -> None:
    """A proxy that is created disabled has the address that it will listen on."""
    fields = {"name": "p", "upstream": NOWHERE, "listen": "127.0.0.1:0", "enabled": False}
    assert json.loads(api("POST", "/proxies", _body(**fields)).body) == _proxy(
        "127.0.0.1:0", enabled=False
    )


def test_index(api: Api, listen: str) -> None:
    """The index has all proxies by name, with their toxics."""
    status, body = api("GET", "/proxies")
    assert (status, json.loads(body)) == (200, {"p": _proxy(listen, _toxic())})


def test_show(api: Api, listen: str) -> None:
    """A proxy is shown to the byte: names in this order, and no blanks."""
    assert api("GET", "/proxies/p") == (
        200,
        b'{"name":"p","listen":"%b","upstream":"127.0.0.1:1","enabled":true,"Logger":{},"toxics":['
        b'{"attributes":{"latency":5,"jitter":0},"name":"t","type":"latency",'
        b'"stream":"downstream","toxicity":1}]}' % listen.encode(),
    )


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_update(api: Api, listen: str, method: str) -> None:
    """Fields that are not given stay."""
    status, body = api(method, "/proxies/p", _body(enabled=False))
    assert (status, json.loads(body)) == (200, _proxy(listen, _toxic(), enabled=False))
    assert not _listens(listen)
    status, body = api(method, "/proxies/p", _body(enabled=True))
    assert (status, json.loads(body)) == (200, _proxy(listen, _toxic()))
    assert _listens(listen)


def test_delete(api: Api, listen: str) -> None:
    """The port of a deleted proxy refuses."""
    assert api("DELETE", "/proxies/p") == (204, b"")
    assert api("GET", "/proxies/p").status == HTTPStatus.NOT_FOUND
    assert not _listens(listen)


def test_toxics(api: Api, listen: str) -> None:  # noqa: ARG001
    """All toxics of a proxy can be read, and a single one."""
    status, body = api("GET", "/proxies/p/toxics")
    assert (status, json.loads(body)) == (200, [_toxic()])
    status, body = api("GET", "/proxies/p/toxics/t")
    assert (status, json.loads(body)) == (200, _toxic())


def test_add_toxic(api: Api, listen: str) -> None:  # noqa: ARG001
    """By default a toxic works downstream on all connections, and is named after its type."""
    status, body = api("POST", "/proxies/p/toxics", _body(type="bandwidth"))
    assert (status, json.loads(body)) == (
        200,
        {
            "attributes": {"rate": 0},
            "name": "bandwidth_downstream",
            "type": "bandwidth",
            "stream": "downstream",
            "toxicity": 1,
        },
    )


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_update_toxic(api: Api, listen: str, method: str) -> None:  # noqa: ARG001
    """Fields that are not given stay."""
    status, body = api(method, "/proxies/p/toxics/t", _body(attributes={"jitter": 2}))
    assert (status, json.loads(body)) == (200, _toxic(5, 2))
    status, body = api(method, "/proxies/p/toxics/t", _body(toxicity=0.25))
    assert (status, json.loads(body)) == (200, _toxic(5, 2, 0.25))


def test_remove_toxic(api: Api, listen: str) -> None:  # noqa: ARG001
    """A removed toxic is gone."""
    assert api("DELETE", "/proxies/p/toxics/t") == (204, b"")
    assert api("GET", "/proxies/p/toxics") == (200, b"[]")


def test_reset(api: Api, listen: str) -> None:
    """A reset enables all proxies and removes all toxics."""
    api("POST", "/proxies/p", _body(enabled=False))
    assert api("POST", "/reset") == (204, b"")
    assert json.loads(api("GET", "/proxies/p").body) == _proxy(listen)
    assert _listens(listen)


def test_populate(api: Api, listen: str) -> None:
    """`populate` leaves a proxy alone that is the same."""
    specs = [
        {"name": "p", "upstream": NOWHERE, "listen": listen},
        {"name": "q", "upstream": NOWHERE, "enabled": False},
    ]
    status, body = api("POST", "/populate", json.dumps(specs).encode())
    first, second = json.loads(body)["proxies"]
    assert status == HTTPStatus.CREATED
    assert first == _proxy(listen, _toxic())
    assert (second["name"], second["enabled"]) == ("q", False)


# --- errors -------------------------------------------------------------------------------------

WRONG_TYPE = "bad request body: json: cannot unmarshal number into Go struct field"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/proxies", b"{", 400, "bad request body: unexpected EOF"),
        ("POST", "/proxies", b"", 400, "bad request body: EOF"),
        ("POST", "/proxies", b"{}", 400, "missing required field: name"),
        ("POST", "/proxies", _body(name="q"), 400, "missing required field: upstream"),
        (
            "POST",
            "/proxies",
            _body(name=1),
            400,
            f"{WRONG_TYPE} Proxy.name of type string",
        ),
        ("POST", "/proxies", _body(name="p", upstream="x:1"), 409, "proxy already exists"),
        ("GET", "/proxies/q", b"", 404, "proxy not found"),
        ("POST", "/proxies/q", b"{}", 404, "proxy not found"),
        ("DELETE", "/proxies/q", b"", 404, "proxy not found"),
        ("GET", "/proxies/q/toxics", b"", 404, "proxy not found"),
        ("GET", "/proxies/p/toxics/x", b"", 404, "toxic not found"),
        ("PATCH", "/proxies/p/toxics/x", b"{}", 404, "toxic not found"),
        ("DELETE", "/proxies/p/toxics/x", b"", 404, "toxic not found"),
        ("POST", "/proxies/p/toxics", b"{}", 400, "invalid toxic type"),
        ("POST", "/proxies/p/toxics", _body(type="slow"), 400, "invalid toxic type"),
        (
            "POST",
            "/proxies/p/toxics",
            _body(type="latency", stream="sideways"),
            400,
            "stream was invalid, can be either upstream or downstream",
        ),
        ("POST", "/proxies/p/toxics", _body(name="t", type="noop"), 409, "toxic already exists"),
        (
            "POST",
            "/proxies/p/toxics",
            _body(name="x", type="slicer", attributes={}),
            400,
            "bad request body: slicer: average_size must be above 0",
        ),
    ],
)
def test_errors(
    api: Api,
    listen: str,  # noqa: ARG001
    method: str,
    path: str,
    body: bytes,
    status: int,
    error: str,
) -> None:
    """Errors have the status and the text of a real Toxiproxy."""
    answer = api(method, path, body)
    assert answer.status == status
    assert json.loads(answer.body) == {"error": error, "status": status}
    assert answer.body.endswith(b"}\n")


def test_port_is_taken(api: Api, listen: str) -> None:
    """A taken port is the system's own error, and no proxy is created."""
    answer = api("POST", "/proxies", _body(name="q", upstream=NOWHERE, listen=listen))
    assert answer.status == HTTPStatus.INTERNAL_SERVER_ERROR
    error = f"listen tcp {listen}: bind: address already in use"
    assert json.loads(answer.body) == {"error": error, "status": 500}
    assert api("GET", "/proxies/q").status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    "populated",
    [[{"name": "q", "upstream": NOWHERE}, {"name": "r"}], [{}], [{"name": "q", "upstream": ""}]],
)
def test_populate_with_something_missing(api: Api, populated: object) -> None:
    """With a field missing, `populate` creates nothing."""
    answer = api("POST", "/populate", json.dumps(populated).encode())
    assert answer.status == HTTPStatus.BAD_REQUEST
    assert json.loads(answer.body)["error"].startswith("missing required field: ")
    assert json.loads(answer.body)["proxies"] is None
    assert api("GET", "/proxies") == (200, b"{}")


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/", (404, b"404 page not found\n")),
        ("GET", "/proxies/", (404, b"404 page not found\n")),
        ("GET", "/nothing", (404, b"404 page not found\n")),
        ("PUT", "/proxies", (405, b"")),
        ("DELETE", "/version", (405, b"")),
    ],
)
def test_no_route(api: Api, method: str, path: str, answer: tuple[int, bytes]) -> None:
    """Unknown paths and methods are answered without JSON."""
    assert api(method, path) == answer


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//proxies", "/proxies"),
        ("/proxies/../version", "/version"),
        ("/proxies//a%20b/?x=1", "/proxies/a%20b/?x=1"),
        ("*", "/%2A"),
    ],
)
def test_paths_that_are_not_clean(toxiproxy: Embedded, path: str, location: str) -> None:
    """They redirect to the clean path, for example from a base URL with a slash too many."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = _exchange(toxiproxy, request.encode())
    assert answer.startswith(b"HTTP/1.1 301 ")
    assert f"\r\nLocation: {location}\r\n".encode() in answer


def test_browsers_are_refused(api: Api) -> None:
    """A web page must not change proxies."""
    assert api("GET", "/proxies", agent="Mozilla/5.0").status == HTTPStatus.FORBIDDEN


# --- HTTP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/version", 405)])
def test_head(api: Api, path: str, status: int) -> None:
    """The response to HEAD has no body, and the connection goes on."""
    assert api("HEAD", path) == (status, b"")
    assert api("GET", "/version").status == HTTPStatus.OK


def test_head_of_a_wrong_path(toxiproxy: Embedded) -> None:
    """HEAD of a wrong path is refused, without a body too."""
    request = b"HEAD /%zz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert _exchange(toxiproxy, request).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert _exchange(toxiproxy, request).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /version HTTP/1.1\r\n\r\n", 400),  # without a host
        (b"GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /version HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000, 431),
        (
            b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b" " * 99_999,
            413,
        ),
    ],
    ids=["no-http", "no-host", "no-length", "long-head", "long-body"],
)
def test_wrong_requests(toxiproxy: Embedded, request_: bytes, status: int) -> None:
    """Wrong requests are refused and their connection closed; others go on."""
    assert _exchange(toxiproxy, request_).startswith(b"HTTP/1.1 %d " % status)
    api = Api(toxiproxy.url)
    assert api("GET", "/version").status == HTTPStatus.OK
    api.close()


def test_pipelined(toxiproxy: Embedded) -> None:
    """Pipelined requests are answered in order."""
    get = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = _exchange(toxiproxy, get % b"proxies" + get % b"nothing" + last)
    parts = (b"{}HTTP/1.1 404 Not Found", b"404 page not found\nHTTP/1.1 200 OK", b'"2.12.0"}\n')
    assert [answer.count(part) for part in parts] == [1, 1, 1]


def test_continue(toxiproxy: Embedded) -> None:
    """A client that waits for `100 Continue` gets it."""
    head = b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with _connected(toxiproxy) as sock:
        sock.sendall(head)
        assert sock.recv(1000) == b"HTTP/1.1 100 \r\n\r\n"
        sock.sendall(b"{}")
        assert sock.recv(1000).startswith(b"HTTP/1.1 204 ")


def _connected(toxiproxy: Embedded) -> socket.socket:
    host, _, port = toxiproxy.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def _exchange(toxiproxy: Embedded, request: bytes) -> bytes:
    """Return everything that is received until the connection is closed."""
    answer = b""
    with _connected(toxiproxy) as sock:
        sock.sendall(request)
        try:
            while data := sock.recv(65536):
                answer += data
        except ConnectionResetError:  # what was not read any more
            pass
    return answer


# --- its clients --------------------------------------------------------------------------------


def _http(toxiproxy: Embedded) -> ToxiproxyClient:
    return ToxiproxyClient(toxiproxy.url)


def _local(toxiproxy: Embedded) -> ToxiproxyClient:
    return LocalToxiproxy(toxiproxy.url, toxiproxy.server, toxiproxy.thread.call)


@pytest.fixture(params=[_http, _local], ids=["http", "local"])
def client(toxiproxy: Embedded, request: pytest.FixtureRequest) -> Iterator[ToxiproxyClient]:
    """The project's own client, with and without HTTP."""
    client: ToxiproxyClient = request.param(toxiproxy)
    yield client
    client.close()


def test_own_client(client: ToxiproxyClient) -> None:
    """All its methods work."""
    assert client.version() == "2.12.0"
    client.populate([{"name": "p 1", "listen": "127.0.0.1:0", "upstream": NOWHERE}])
    assert client.proxies().keys() == {"p 1"}
    listen = client.proxy("p 1")["listen"]
    assert _listens(listen)
    client.set_enabled("p 1", False)
    assert not client.proxy("p 1")["enabled"]
    assert not _listens(listen)
    client.set_enabled("p 1", True)
    client.add_toxic("p 1", "t", Latency(5, 1), UP, 0.5)
    client.add_toxic("p 1", "u", Bandwidth(64), DOWN)
    client.update_toxic("p 1", "t", Latency(6))
    client.remove_toxic("p 1", "u")
    (toxic,) = client.proxy("p 1")["toxics"]
    assert toxic == _toxic(6, 0, 0.5) | {"stream": "upstream"}
    client.reset()
    assert client.proxy("p 1")["toxics"] == []


@pytest.mark.parametrize(
    ("call", "error", "status"),
    [
        (lambda c: c.proxy("q"), "proxy not found", 404),
        (lambda c: c.add_toxic("p", "t", Slicer(1), UP), "toxic already exists", 409),
        (lambda c: c.remove_toxic("p", "u"), "toxic not found", 404),
        (lambda c: c.populate([{"name": "q"}]), "missing required field: upstream", 400),
    ],
)
def test_own_client_errors(
    client: ToxiproxyClient,
    listen: str,  # noqa: ARG001
    call: Callable[[ToxiproxyClient], object],
    error: str,
    status: int,
) -> None:
    """Its errors have the API's text and status."""
    with pytest.raises(ToxiproxyError, match=error) as caught:
        call(client)
    assert caught.value.status == status


def test_local_changes_at_once(toxiproxy: Embedded, listen: str) -> None:  # noqa: ARG001
    """Changes are made in one round of the loop, in order; those after a wrong one, too."""
    client = _local(toxiproxy)
    seen: list[list[str]] = []

    def note() -> None:
        seen.append([toxic.name for toxic in toxiproxy.server.proxies["p"].toxics[UP]])

    def look_next_turn() -> None:
        asyncio.get_running_loop().call_soon(note)

    errors = client.at_once(
        [
            look_next_turn,
            lambda: client.add_toxic("p", "a", Latency(1), UP),
            lambda: client.remove_toxic("p", "nothing"),
            lambda: client.add_toxic("p", "b", Latency(1), UP),
        ]
    )
    assert errors is not None
    assert [type(error) for error in errors] == [type(None), type(None), ToxiproxyError, type(None)]
    toxiproxy.thread.call(lambda: None)  # another turn
    assert seen == [["a", "b"]]
    assert not client.may_block


def test_others_change_nothing_at_once(toxiproxy: Embedded) -> None:
    """Over HTTP changes are never made at once."""
    done: list[int] = []
    assert _http(toxiproxy).at_once([lambda: done.append(1)]) is None
    assert not done


@pytest.fixture
def their_client(toxiproxy: Embedded, monkeypatch: pytest.MonkeyPatch) -> Any:
    """toxiproxy-python's client, which knows one server at a time."""
    host, _, port = toxiproxy.url.removeprefix("http://").rpartition(":")
    monkeypatch.setattr(APIConsumer, "host", host)
    monkeypatch.setattr(APIConsumer, "port", int(port))
    return Toxiproxy()


def test_toxiproxy_python(their_client: Any) -> None:
    """All its methods work."""
    assert their_client.running()
    assert json.loads(their_client.version()) == {"version": "2.12.0"}
    proxy = their_client.create(upstream=NOWHERE, name="p")
    assert _listens(proxy.listen)
    with proxy.down():
        assert not _listens(proxy.listen)
    assert _listens(proxy.listen)
    proxy.add_toxic(type="latency", attributes={"latency": 5})
    proxy.add_toxic(type="slicer", stream="upstream", name="s", attributes={"average_size": 9})
    assert set(proxy.toxics()) == {"latency_downstream", "s"}
    assert proxy.get_toxic("s").attributes == {"average_size": 9, "size_variation": 0, "delay": 0}
    proxy.destroy_toxic("s")
    assert proxy.get_toxic("s") is None
    assert their_client.reset()
    assert proxy.toxics() == {}
    populated = [{"name": "q", "upstream": NOWHERE, "listen": "127.0.0.1:0"}]
    (other,) = their_client.populate(populated)
    assert their_client.proxies().keys() == {"p", "q"}
    assert their_client.get_proxy("q").listen == other.listen
    their_client.destroy(other)
    assert their_client.get_proxy("q") is None
    their_client.destroy_all()
    assert their_client.proxies() == {}


def test_toxiproxy_python_errors(their_client: Any) -> None:
    """It recognizes errors by their status."""
    proxy = their_client.create(upstream=NOWHERE, name="p")
    with pytest.raises(InvalidToxic):
        proxy.add_toxic(type="nothing")
    proxy.add_toxic(type="latency")
    with pytest.raises(ProxyExists):
        proxy.add_toxic(type="latency")
    with pytest.raises(NotFound):
        proxy.destroy_toxic("nothing")

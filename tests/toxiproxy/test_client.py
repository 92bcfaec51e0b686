"""The client for Toxiproxy's API, against a server that answers as it is told."""

import json
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest

from cachesim.errors import ToxiproxyError, ToxiproxyTimeout
from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import Latency, Stream


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass
class Answer:
    """What the server answers.

    Attributes:
        closes: whether it closes the connection afterwards, without having said so.
        waits_for: what has to happen before it answers.
    """

    status: int = 200
    body: bytes = b"{}"
    closes: bool = False
    waits_for: threading.Event = field(default_factory=threading.Event)


class Script(socketserver.ThreadingTCPServer):
    """An HTTP server on a free port that gives its answers in order, then always the last one.

    Attributes:
        requests: what it was asked, in order.
        connections: how many it has accepted.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []
        self.connections = 0
        self.answers: deque[Answer] = deque()
        self.asked = threading.Semaphore(0)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, status: int = 200, body: object = None, *, closes: bool = False) -> None:
        """Answer the next request so, without delay."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = Answer(status, b"" if body is None else data, closes)
        answer.waits_for.set()
        self.answers.append(answer)

    def hang(self) -> threading.Event:
        """Answer the next request only when the event is set."""
        self.answers.append(answer := Answer())
        return answer.waits_for


class _Handler(socketserver.StreamRequestHandler):
    server: Script

    def handle(self) -> None:
        self.server.connections += 1
        while line := self.rfile.readline():
            method, path, _ = line.decode().split()
            headers = {}
            while header := self.rfile.readline().decode().strip():
                name, _, value = header.partition(": ")
                headers[name.lower()] = value
            body = self.rfile.read(int(headers.get("content-length", 0)))
            answers = self.server.answers
            answer = answers.popleft() if len(answers) > 1 else answers[0]
            self.server.requests.append(Request(method, path, headers, body))
            self.server.asked.release()
            answer.waits_for.wait()
            reason = HTTPStatus(answer.status).phrase
            head = f"HTTP/1.1 {answer.status} {reason}\r\n"
            if answer.status != HTTPStatus.NO_CONTENT:
                head += f"Content-Length: {len(answer.body)}\r\n"
            self.wfile.write(head.encode() + b"\r\n" + answer.body)
            if answer.closes:
                return


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that has no answer yet."""
    with Script() as script:
        thread = threading.Thread(target=script.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield script
        for answer in script.answers:
            answer.waits_for.set()
        script.shutdown()
        thread.join()


@pytest.fixture
def client(script: Script) -> Iterator[ToxiproxyClient]:
    """A client of that server."""
    client = ToxiproxyClient(script.url, timeout=10)
    yield client
    client.close()


@pytest.mark.parametrize(
    ("call", "status", "method", "path", "body"),
    [
        pytest.param(
            lambda c: c.populate([{"name": "p", "listen": "127.0.0.1:1", "upstream": "u:2"}]),
            201,
            "POST",
            "/populate",
            [{"name": "p", "listen": "127.0.0.1:1", "upstream": "u:2"}],
            id="populate",
        ),
        pytest.param(
            lambda c: c.set_enabled("p", True),
            200,
            "POST",
            "/proxies/p",
            {"enabled": True},
            id="enable",
        ),
        pytest.param(
            lambda c: c.set_enabled("p", False),
            200,
            "POST",
            "/proxies/p",
            {"enabled": False},
            id="disable",
        ),
        pytest.param(
            lambda c: c.add_toxic("p", "t", Latency(100, 20), Stream.UPSTREAM, 0.5),
            200,
            "POST",
            "/proxies/p/toxics",
            {
                "name": "t",
                "type": "latency",
                "stream": "upstream",
                "toxicity": 0.5,
                "attributes": {"latency": 100, "jitter": 20},
            },
            id="add-toxic",
        ),
        pytest.param(
            lambda c: c.remove_toxic("p", "t"),
            204,
            "DELETE",
            "/proxies/p/toxics/t",
            None,
            id="remove-toxic",
        ),
        pytest.param(
            lambda c: c.update_toxic("p", "t", Latency(0)),
            200,
            "POST",
            "/proxies/p/toxics/t",
            {"attributes": {"latency": 0, "jitter": 0}},
            id="update-toxic",
        ),
    ],
)
def test_call(
    script: Script,
    client: ToxiproxyClient,
    call: Callable[[ToxiproxyClient], None],
    status: int,
    method: str,
    path: str,
    body: object,
) -> None:
    """Every call goes to the API's own path, with the JSON that it takes."""
    script.answer(status, None if status == 204 else {})
    call(client)
    (request,) = script.requests
    assert (request.method, request.path) == (method, path)
    if body is None:
        assert not request.body
    else:
        assert request.json == body
        assert request.headers["content-type"] == "application/json"


def test_version(script: Script, client: ToxiproxyClient) -> None:
    """The version is read from the server."""
    script.answer(200, b'{"version": "2.12.0"}\n')
    assert client.version() == "2.12.0"
    assert (script.requests[0].method, script.requests[0].path) == ("GET", "/version")


def test_proxies(script: Script, client: ToxiproxyClient) -> None:
    """All proxies come by name, as the API gives them."""
    proxies = {"p": {"name": "p", "enabled": True, "toxics": []}}
    script.answer(200, proxies)
    assert client.proxies() == proxies
    assert (script.requests[0].method, script.requests[0].path) == ("GET", "/proxies")


def test_proxy(script: Script, client: ToxiproxyClient) -> None:
    """One proxy is returned as the API gives it."""
    script.answer(200, {"name": "p", "toxics": [{"name": "t"}]})
    assert client.proxy("p") == {"name": "p", "toxics": [{"name": "t"}]}
    assert (script.requests[0].method, script.requests[0].path) == ("GET", "/proxies/p")


def test_names_are_quoted(script: Script, client: ToxiproxyClient) -> None:
    """A name that would not do in a path is quoted."""
    script.answer(204)
    client.remove_toxic("my proxy", "50%?")
    assert script.requests[0].path == "/proxies/my%20proxy/toxics/50%25%3F"


@pytest.mark.parametrize(
    ("call", "path"),
    [
        pytest.param(lambda c: c.proxy("a/b"), "/proxies/a%2Fb", id="proxy"),
        pytest.param(lambda c: c.set_enabled("a/b", True), "/proxies/a%2Fb", id="enable"),
        pytest.param(
            lambda c: c.add_toxic("a/b", "t", Latency(1), Stream.UPSTREAM),
            "/proxies/a%2Fb/toxics",
            id="add-toxic",
        ),
        pytest.param(
            lambda c: c.update_toxic("a/b", "t/u", Latency(1)),
            "/proxies/a%2Fb/toxics/t%2Fu",
            id="update-toxic",
        ),
        pytest.param(
            lambda c: c.remove_toxic("a/b", "t/u"),
            "/proxies/a%2Fb/toxics/t%2Fu",
            id="remove-toxic",
        ),
    ],
)
def test_slash_in_a_name(
    script: Script, client: ToxiproxyClient, call: Callable[[ToxiproxyClient], None], path: str
) -> None:
    """A slash in a name does not begin another part of the path."""
    script.answer(200, {})
    call(client)
    assert script.requests[0].path == path


def test_not_a_browser(script: Script, client: ToxiproxyClient) -> None:
    """The client is not taken for a browser, which Toxiproxy refuses."""
    script.answer(204)
    client.remove_toxic("p", "t")
    assert not script.requests[0].headers.get("user-agent", "").startswith("Mozilla/")


@pytest.mark.parametrize("ending", ["", "/"])
def test_url(script: Script, ending: str) -> None:
    """A slash at the end of the URL makes no difference."""
    script.answer(204)
    client = ToxiproxyClient(script.url + ending)
    client.remove_toxic("p", "t")
    client.close()
    assert client.url == script.url
    assert script.requests[0].path == "/proxies/p/toxics/t"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "bad request body: unexpected EOF"),
        (400, "missing required field: name"),
        (400, "stream was invalid, can be either upstream or downstream"),
        (400, "invalid toxic type"),
        (404, "proxy not found"),
        (404, "toxic not found"),
        (409, "proxy already exists"),
        (409, "toxic already exists"),
        (500, "listen tcp 127.0.0.1:6379: bind: address already in use"),
    ],
)
def test_error(script: Script, client: ToxiproxyClient, status: int, message: str) -> None:
    """Every error status is an exception with the server's own message and the status."""
    script.answer(status, {"error": message, "status": status})
    with pytest.raises(ToxiproxyError) as caught:
        client.set_enabled("p", True)
    assert caught.value.status == status
    assert str(caught.value) == f"Toxiproxy at {script.url}: POST /proxies/p: {message}"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(503, b"<html><body><h1>Timeout</h1></body></html>", id="html"),
        pytest.param(500, b"", id="nothing"),
        pytest.param(500, b'["a list"]', id="other-json"),
    ],
)
def test_error_without_a_message(
    script: Script, client: ToxiproxyClient, status: int, body: bytes
) -> None:
    """An error that is not told as the API tells errors is one all the same, with its text."""
    script.answer(status, body)
    with pytest.raises(ToxiproxyError) as caught:
        client.proxies()
    assert caught.value.status == status
    assert f"status {status}" in str(caught.value)
    assert body.decode() in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>a proxy's page</html>", b"\xff"], ids=["html", "bytes"])
def test_success_without_json(script: Script, client: ToxiproxyClient, body: bytes) -> None:
    """An answer that is no JSON does not come from a Toxiproxy, whatever its status."""
    script.answer(200, body)
    with pytest.raises(ToxiproxyError, match="GET /proxies: no JSON: ") as caught:
        client.proxies()
    assert caught.value.status == 200


def test_after_an_error(script: Script, client: ToxiproxyClient) -> None:
    """An error costs no connection."""
    script.answer(404, {"error": "proxy not found", "status": 404})
    script.answer(200, {"name": "p"})
    with pytest.raises(ToxiproxyError):
        client.proxy("p")
    assert client.proxy("p") == {"name": "p"}
    assert script.connections == 1


def test_no_answer(script: Script) -> None:
    """An answer that does not come in time is a timeout that says so, without a status."""
    script.hang()
    client = ToxiproxyClient(script.url, timeout=0.05)
    with pytest.raises(ToxiproxyTimeout, match=r"GET /proxies: no answer within 0\.05 s") as caught:
        client.proxies()
    assert caught.value.status is None


def test_after_a_timeout(script: Script) -> None:
    """A late answer is never taken for the answer to the next call."""
    late = script.hang()
    script.answer(200, {"version": "2.12.0"})
    client = ToxiproxyClient(script.url, timeout=0.05)
    with pytest.raises(ToxiproxyTimeout):
        client.proxies()
    late.set()
    client = ToxiproxyClient(script.url, timeout=10)
    assert client.version() == "2.12.0"
    client.close()
    assert script.connections == 2


def test_connection_is_kept(script: Script, client: ToxiproxyClient) -> None:
    """Calls one after the other share a connection."""
    script.answer(204)
    for _ in range(3):
        client.remove_toxic("p", "t")
    assert script.connections == 1


def test_closed_connection_is_replaced(script: Script, client: ToxiproxyClient) -> None:
    """A kept connection that the server has closed is replaced without anybody noticing."""
    script.answer(204, closes=True)
    for _ in range(3):
        client.remove_toxic("p", "t")
    assert script.connections == 3
    assert len(script.requests) == 3


def test_connection_that_is_closed_at_once() -> None:
    """A server that closes every new connection is an error, not an endless loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def close_first() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100_000)

        with ThreadPoolExecutor(1) as pool:
            closed = pool.submit(close_first)
            client = ToxiproxyClient(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10)
            with pytest.raises(ToxiproxyError) as caught:
                client.remove_toxic("p", "t")
            closed.result()
    assert not isinstance(caught.value, ToxiproxyTimeout)
    assert caught.value.status is None


def test_connection_refused() -> None:
    """A server that is not there is an error that says where it should be, without a status."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening, so nobody else can listen there
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ToxiproxyError, match=f"Toxiproxy at {url}: GET /version: ") as caught:
            ToxiproxyClient(url).version()
    assert caught.value.status is None
    assert not isinstance(caught.value, ToxiproxyTimeout)


def test_concurrent_calls(script: Script, client: ToxiproxyClient) -> None:
    """A call that waits for its answer does not keep others from theirs."""
    slow = script.hang()
    script.answer(200, {"version": "2.12.0"})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.proxies)
        assert script.asked.acquire(timeout=10)
        assert client.version() == "2.12.0"
        assert not waiting.done()
        slow.set()
        assert waiting.result(timeout=10) == {}

"""Messages are posted to a URL that is never shown."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from typing import NamedTuple

import pytest

from cachesim.errors import SettingsError
from cachesim.events import EventLog
from cachesim.monitoring.forwarding import Forwarder
from cachesim.monitoring.states import State
from tests.monitoring.test_notifications import message


class Posted(NamedTuple):
    """What a server got."""

    path: str
    headers: dict[str, str]
    body: object


class Webhook:
    """A server that keeps what is posted to it, and answers with a status."""

    def __init__(self) -> None:
        self.posted: Queue[Posted] = Queue()
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                headers = {key.lower(): value for key, value in self.headers.items()}
                hook.posted.put(Posted(self.path, headers, json.loads(self.rfile.read(size))))
                self.send_response(hook.status)
                if hook.status == 301:
                    self.send_header("Location", "/secret/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    """A server."""
    it = Webhook()
    yield it
    it.server.shutdown()
    it.server.server_close()
    it.thread.join()


@pytest.fixture
def file(tmp_path: Path, hook: Webhook) -> Path:
    """A file with its URL."""
    path = tmp_path / "url"
    path.write_text(f"http://127.0.0.1:{hook.server.server_port}/secret\n")
    return path


def test_posted(hook: Webhook, file: Path) -> None:
    """Each service's message is posted as that service would get it; what it drops is not."""
    forwarder = Forwarder(file, EventLog())
    try:
        dropped = message(new=State.INSUFFICIENT_DATA)
        sent = [message(), message(to="Slack")]
        for it in (dropped, *sent):
            forwarder.send(it)
        for it in sent:
            got = hook.posted.get(timeout=10)
            assert (got.path, got.body) == ("/secret", it.received)
            is_sns = it.to == "PagerDuty"
            assert ("x-amz-sns-message-type" in got.headers) == is_sns
    finally:
        forwarder.close()


@pytest.mark.parametrize("status", [403, 301])
def test_failure_is_told_without_the_url(hook: Webhook, file: Path, status: int) -> None:
    """A server that refuses, or redirects, is told in the event log, which has no URL."""
    hook.status = status
    events = EventLog()
    forwarder = Forwarder(file, events)
    try:
        forwarder.send(message())
        assert events.wait(lambda: bool(events._events), 10)
    finally:
        forwarder.close()
    (event,) = events.of("error")
    assert str(status) in event.message
    assert "secret" not in event.message
    assert str(file) in event.message


@pytest.mark.parametrize("url", ["http://a..b/secret", "http://127.0.0.1:1/secret-é"])
def test_a_url_that_can_not_be_asked(tmp_path: Path, url: str) -> None:
    """It is told in the event log too, for each message."""
    (tmp_path / "url").write_text(url, encoding="utf-8")
    events = EventLog()
    forwarder = Forwarder(tmp_path / "url", events)
    try:
        forwarder.send(message())
        forwarder.send(message())
        assert events.wait(lambda: len(events._events) == 2, 10)
    finally:
        forwarder.close()
    assert "secret" not in str(events)


def test_nothing_was_sent(file: Path) -> None:
    """Without a message there is no thread, and nothing to end."""
    before = threading.active_count()
    forwarder = Forwarder(file, EventLog())
    assert threading.active_count() == before
    forwarder.close()


@pytest.mark.parametrize("text", ["", "no url", "file:///etc/passwd", "http://", "http://a b"])
def test_no_url(tmp_path: Path, text: str) -> None:
    """A file without a URL is refused by its name, and what is in it is not shown."""
    path = tmp_path / "url"
    path.write_text(text)
    with pytest.raises(SettingsError, match="webhook_file") as caught:
        Forwarder(path, EventLog())
    assert not text or text not in str(caught.value)
    with pytest.raises(SettingsError, match="webhook_file"):
        Forwarder(tmp_path / "none", EventLog())

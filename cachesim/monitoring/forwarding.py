"""Posts the messages of the inbox to a URL."""

import contextlib
import json
import queue
import threading
import urllib.request
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from cachesim.errors import SettingsError
from cachesim.events import EventLog
from cachesim.monitoring.messages import Message

_TIMEOUT = 5.0  # seconds for an answer
_MOST = 100  # messages that wait


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to the caller, as errors: urllib would follow them without the message."""

    def redirect_request(self, *_arguments: object) -> None:
        """Follow none."""


class Forwarder:
    """Posts messages, one after the other, from a thread of its own that the first one starts.

    A failure is told in the event log, and the message is not sent again.

    Args:
        file: has the URL, which may hold a secret: it is never shown.

    Raises:
        SettingsError: the file can't be read, or has no URL.
    """

    def __init__(self, file: Path, events: EventLog) -> None:
        self._url = _url_in(file)
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._file = file
        self._events = events
        self._waiting: queue.Queue[Message | None] = queue.Queue(_MOST)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def send(self, message: Message) -> None:
        """Post a message soon: what its service would get. What that drops is not posted."""
        if message.received is None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="cachesim-webhook", daemon=True
                )
                self._thread.start()
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._failed(message, "too many messages wait")

    def close(self) -> None:
        """End, without what still waits."""
        with self._lock:
            if self._thread is None:
                return
            with contextlib.suppress(queue.Empty):
                while True:
                    self._waiting.get_nowait()
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            try:
                self._post(message)
            # The message of an error may have the URL.
            except HTTPError as error:
                with error:  # it is the answer, and has the connection
                    self._failed(message, f"HTTPError {error.code}")
            except Exception as error:  # a ValueError too: of a host that can't be a name
                self._failed(message, type(error).__name__)

    def _post(self, message: Message) -> None:
        headers = {"Content-Type": "application/json"}
        if message.received == message.envelope:
            headers = {
                "Content-Type": "text/plain; charset=UTF-8",  # as SNS says
                "x-amz-sns-message-type": "Notification",
                "x-amz-sns-message-id": message.envelope["MessageId"],
                "x-amz-sns-topic-arn": message.envelope["TopicArn"],
            }
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url, json.dumps(message.received).encode(), headers, method="POST"
        )
        with self._opener.open(request, timeout=_TIMEOUT):
            pass

    def _failed(self, message: Message, why: str) -> None:
        self._events.record(
            "error",
            message.about,
            f"its message was not posted to the URL in {self._file}: {why}",
        )


def _url_in(file: Path) -> str:
    try:
        url = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"webhook_file: {file}: {error}") from error
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url or len(url.split()) != 1:
        raise SettingsError(f"webhook_file: {file} should have one URL, with http or https")
    return url

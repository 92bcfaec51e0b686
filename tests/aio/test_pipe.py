"""In-process connections."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest

from cachesim.aio.pipe import PipeTransport, pipe


class Recorder(asyncio.Protocol):
    """A protocol that logs its calls.

    Attributes:
        stays_open: the result of `eof_received`.
        on_data: called with received data.
        inside: whether one of its own calls is running.
    """

    transport: PipeTransport
    stays_open = False

    def __init__(self, on_data: Callable[["Recorder", bytes], None] | None = None) -> None:
        self.log: list[object] = []
        self.on_data = on_data
        self.inside = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log the call."""
        assert isinstance(transport, PipeTransport)
        self.transport = transport
        self.log.append("made")

    def data_received(self, data: bytes) -> None:
        """Log data. It must not come while another call is running."""
        assert not self.inside
        self.log.append(data)
        if self.on_data:
            self.inside = True
            self.on_data(self, data)
            self.inside = False

    def eof_received(self) -> bool:
        """Log the call."""
        self.log.append("eof")
        return self.stays_open

    def connection_lost(self, exc: Exception | None) -> None:
        """Log the call."""
        self.log.append(type(exc) if exc else "lost")

    def pause_writing(self) -> None:
        """Log the call."""
        self.log.append("pause")

    def resume_writing(self) -> None:
        """Log the call."""
        self.log.append("resume")

    def send(self, data: bytes) -> None:
        """Send data, as a running call."""
        self.inside = True
        self.transport.write(data)
        self.inside = False


class Reentrant(Recorder):
    """Allows calls at any time."""

    reentrant = True


Test = Callable[[Recorder, Recorder], Awaitable[None]]


def play(test: Test, left: Recorder | None = None, right: Recorder | None = None) -> None:
    """Run a test with two connected protocols."""

    async def main() -> None:
        one, other = left or Recorder(), right or Recorder()
        pipe(asyncio.get_running_loop(), one, other)
        assert one.log == other.log == ["made"]
        one.log.clear()
        other.log.clear()
        await test(one, other)

    asyncio.run(main())


async def rounds(count: int = 3) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_data() -> None:
    """Data arrives both ways, whole and in order, but not within the sender's call."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.send(b"a")
        left.transport.writelines([b"b", b"c"])
        right.send(b"d")
        assert right.log == left.log == []
        await rounds()
        assert right.log == [b"a", b"bc"]
        assert left.log == [b"d"]

    play(test)


def test_buffers_are_copied() -> None:
    """A written buffer can be reused."""

    async def test(left: Recorder, right: Recorder) -> None:
        buffer = bytearray(b"abc")
        left.transport.write(memoryview(buffer)[:2])
        left.transport.write(buffer)
        buffer[:] = b"xyz"
        await rounds()
        assert right.log == [b"ab", b"abc"]

    play(test)


def test_reentrant() -> None:
    """A reentrant receiver gets data at once; its answer waits for the end of the sender's call."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.send(b"ping")
        assert right.log == [b"ping"]
        assert left.log == []
        await rounds()
        assert left.log == [b"pong"]

    play(test, right=Reentrant(lambda self, _: self.send(b"pong")))


def test_deliver() -> None:
    """A caller that the loop has called can deliver data at once, and still in order."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.transport.deliver(b"a")
        assert right.log == [b"a"]
        left.transport.write(b"b")
        left.transport.deliver(b"c")
        assert right.log == [b"a"]
        await rounds()
        assert right.log == [b"a", b"b", b"c"]

    play(test)


def test_endless_talk_does_not_block_the_loop() -> None:
    """Two ends that answer each other for ever leave the loop time for other work."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.send(b"x")
        await rounds(100)
        assert 10 < len(right.log) <= 110
        left.transport.abort()

    def echo(self: Recorder, data: bytes) -> None:
        self.transport.write(data)

    play(test, Recorder(echo), Recorder(echo))


def test_half_close() -> None:
    """An end arrives after the data; the other direction goes on until it ends, too."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.send(b"question")
        left.transport.write_eof()
        await rounds()
        assert right.log == [b"question", "eof"]
        with pytest.raises(RuntimeError):
            left.transport.write(b"more")
        right.send(b"answer")
        right.transport.close()
        await rounds()
        assert left.log == [b"answer", "eof", "lost"]
        assert right.log[2:] == ["lost"]

    play(test, right=_open())


def _open() -> Recorder:
    recorder = Recorder()
    recorder.stays_open = True
    return recorder


def test_close() -> None:
    """Written data arrives before the end; a receiver that does not stay open is closed, too."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.send(b"last")
        left.transport.close()
        left.transport.write(b"too late")
        assert left.transport.is_closing()
        await rounds()
        assert right.log == [b"last", "eof", "lost"]
        assert left.log == ["lost"]

    play(test)


def test_nothing_comes_after_close() -> None:
    """A closed end receives nothing."""

    async def test(left: Recorder, right: Recorder) -> None:
        right.send(b"on its way")
        left.transport.close()
        await rounds()
        assert left.log == ["lost"]

    play(test)


def test_write_to_a_closed_end() -> None:
    """A write to a closed end is answered by a reset."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.transport.close()
        await rounds()
        right.send(b"anybody there?")
        await rounds()
        assert right.log == ["eof", ConnectionResetError]

    play(test, right=_open())


def test_abort() -> None:
    """The other end loses its connection with an error, and data on its way is lost."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.send(b"lost")
        right.send(b"lost")
        left.transport.abort()
        left.transport.abort()
        await rounds()
        assert right.log == [ConnectionResetError]
        assert left.log == ["lost"]

    play(test)


def test_paused() -> None:
    """A paused receiver gets its data when it resumes, in order."""

    async def test(left: Recorder, right: Recorder) -> None:
        right.transport.pause_reading()
        assert not right.transport.is_reading()
        left.send(b"a")
        left.transport.close()
        await rounds()
        assert right.log == []
        right.transport.resume_reading()
        await rounds()
        assert right.log == [b"a", "eof", "lost"]

    play(test, right=Reentrant())


def test_paused_does_not_notice_a_reset() -> None:
    """A paused receiver does not notice a reset, as with a socket."""

    async def test(left: Recorder, right: Recorder) -> None:
        right.transport.pause_reading()
        left.transport.abort()
        await rounds()
        assert right.log == []
        right.transport.resume_reading()
        await rounds()
        assert right.log == [ConnectionResetError]

    play(test)


def test_data_comes_before_a_reset() -> None:
    """An answer to an end that has closed loses nothing that the end had sent before."""

    def answer_slowly(right: Recorder, _: bytes) -> None:
        right.transport.write(b"answer")
        until = monotonic() + 0.004  # longer than the deliveries of a round
        while monotonic() < until:
            pass

    async def test(left: Recorder, right: Recorder) -> None:
        for data in (b"a", b"b", b"c"):
            left.send(data)
        left.transport.close()
        await rounds()
        assert right.log == [b"a", b"b", b"c", ConnectionResetError]

    play(test, right=Recorder(answer_slowly))


def test_pausing_in_the_middle() -> None:
    """A receiver can pause within a call; later data waits."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.send(b"a")
        left.send(b"b")
        await rounds()
        assert right.log == [b"a"]
        right.transport.resume_reading()
        await rounds()
        assert right.log == [b"a", b"b"]

    play(test, right=Recorder(lambda self, _: self.transport.pause_reading()))


def test_flow_control() -> None:
    """A sender is paused once when too much waits, and resumed when little does."""

    async def test(left: Recorder, right: Recorder) -> None:
        left.transport.set_write_buffer_limits(100, 10)
        assert left.transport.get_write_buffer_limits() == (10, 100)
        right.transport.pause_reading()
        left.send(b"x" * 100)
        assert left.log == []
        left.send(b"x")
        left.send(b"x")
        assert left.log == ["pause"]
        assert left.transport.get_write_buffer_size() == 102
        right.transport.resume_reading()
        await rounds()
        assert left.log == ["pause", "resume"]
        assert left.transport.get_write_buffer_size() == 0

    play(test)


def test_sender_resumes_when_the_receiver_is_gone() -> None:
    """A paused sender is resumed when the receiver closes."""

    async def test(left: Recorder, right: Recorder) -> None:
        right.transport.pause_reading()
        left.send(b"x" * 100_000)
        right.transport.close()
        await rounds()
        assert left.log == ["pause", "eof", "resume", "lost"]

    play(test)


def test_receiver_fails() -> None:
    """A receiver's exception ends its connection and is reported; the sender sees a reset."""
    reports: list[dict[str, object]] = []

    def fail(self: Recorder, data: bytes) -> None:
        self.inside = False
        raise ZeroDivisionError(data)

    async def test(left: Recorder, right: Recorder) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        left.transport.deliver(b"a")
        await rounds()
        assert right.log == [b"a", ZeroDivisionError]
        assert left.log == [ConnectionResetError]
        assert isinstance(reports[0]["exception"], ZeroDivisionError)

    play(test, right=Recorder(fail))


def test_protocol_is_exchanged() -> None:
    """The protocol can be replaced."""

    async def test(left: Recorder, right: Recorder) -> None:
        other = Reentrant()
        right.transport.set_protocol(other)
        assert right.transport.get_protocol() is other
        left.send(b"a")
        assert other.log == [b"a"]
        with pytest.raises(TypeError, match=r"needs an asyncio\.Protocol"):
            right.transport.set_protocol(asyncio.BaseProtocol())

    play(test)


def test_greeting() -> None:
    """Data sent in `connection_made` arrives, whichever side sends it."""

    class Greeter(Reentrant):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"hello")

    async def main() -> None:
        left, right = Greeter(), Greeter()
        pipe(asyncio.get_running_loop(), left, right)
        await rounds()
        assert left.log == right.log == ["made", b"hello"]

    asyncio.run(main())


def test_addresses() -> None:
    """Each end knows both addresses, if they are given."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = ("127.0.0.1", 1), ("127.0.0.1", 2)
        left, right = pipe(loop, Recorder(), Recorder(), left_address=here, right_address=there)
        assert left.get_extra_info("sockname") == right.get_extra_info("peername") == here
        assert right.get_extra_info("sockname") == left.get_extra_info("peername") == there
        assert pipe(loop, Recorder(), Recorder())[0].get_extra_info("peername") is None

    asyncio.run(main())

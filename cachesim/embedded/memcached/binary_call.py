"""A request of the binary protocol, and its replies."""

from typing import Final

from cachesim.protocols.memcached_binary import HEADER, OPCODES, RESPONSE, Opcode

NOT_FOUND: Final = 0x01
EXISTS: Final = 0x02
TOO_LARGE: Final = 0x03
INVALID_ARGUMENTS: Final = 0x04
NOT_STORED: Final = 0x05
NON_NUMERIC: Final = 0x06
UNKNOWN_COMMAND: Final = 0x81
NO_MEMORY: Final = 0x82
_TEXTS: Final = {
    NOT_FOUND: b"Not found",
    EXISTS: b"Data exists for key.",
    TOO_LARGE: b"Too large.",
    INVALID_ARGUMENTS: b"Invalid arguments",
    NOT_STORED: b"Not stored.",
    NON_NUMERIC: b"Non-numeric server-side value for incr or decr",
    UNKNOWN_COMMAND: b"Unknown command",
}


class Call:
    """A request.

    Attributes:
        kind: what its opcode stands for.
        extras, key: of its body.
        cas: the `cas` that an item must have; 0: any.
    """

    def __init__(self, header: bytes, extras: bytes, key: bytes) -> None:
        _, self._opcode, _, _, _, _, _, self._opaque, self.cas = HEADER.unpack(header)
        self.kind = OPCODES.get(self._opcode, Opcode(b""))
        self.extras = extras
        self.key = key

    def reply(
        self,
        extras: bytes = b"",
        key: bytes = b"",
        value: bytes = b"",
        cas: int = 0,
        status: int = 0,
    ) -> bytes:
        """Return a reply."""
        body = extras + key + value
        return (
            HEADER.pack(
                RESPONSE,
                self._opcode,
                len(key),
                len(extras),
                0,
                status,
                len(body),
                self._opaque,
                cas,
            )
            + body
        )

    def done(self, value: bytes = b"", cas: int = 0) -> bytes:
        """Return the reply of success; it is left out if the request is quiet."""
        return b"" if self.kind.is_quiet else self.reply(value=value, cas=cas)

    def error(self, status: int, text: bytes = b"", cas: int = 0) -> bytes:
        """Return an error."""
        return self.reply(value=text or _TEXTS[status], cas=cas, status=status)


def refusal(words: list[bytes], text: str) -> bytes:
    """Return a request's reply with an error of the text protocol."""
    message = text.removeprefix("SERVER_ERROR ").encode()
    return Call(words[1], words[2], words[3]).error(NO_MEMORY, message)

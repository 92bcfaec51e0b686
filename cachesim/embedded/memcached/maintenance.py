"""The commands for Memcached's background threads: `slabs`, `lru`, `lru_crawler`.

An emulated node has no such threads. It checks the arguments, answers as 1.6 does, and shows what
was set in `stats settings`.
"""

import math
from collections.abc import Mapping
from urllib.parse import quote_from_bytes

from cachesim.embedded.memcached.items import Item
from cachesim.embedded.memcached.replies import BAD_FORMAT, END, ERROR, OK
from cachesim.embedded.memcached.server import Execute, Server
from cachesim.protocols.memcached import unsigned, unsigned32

_MOST_PERCENT = 80  # for the hot and the warm lists together
_LONGEST_SLEEP = 1_000_000  # microseconds
_LAST_CLASS = 63
_BAD_CLASS = b"BADCLASS invalid class id\r\n"
_CRAWLER_OFF = b"CLIENT_ERROR lru crawler disabled\r\n"


class Maintenance:
    """The commands of one server.

    Attributes:
        handlers: runs each command, by its name.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._items = server.items
        self.handlers: Mapping[bytes, Execute] = {
            b"slabs": self._slabs,
            b"lru": self._lru,
            b"lru_crawler": self._crawler,
        }

    def _set(self, **values: object) -> bytes:
        self._server.tuned.update({name: str(value) for name, value in values.items()})
        return OK

    # --- slabs ------------------------------------------------------------------------------

    def _slabs(self, words: list[bytes], _value: bytes | None) -> bytes:
        if len(words) == 4 and words[1] == b"reassign":
            return self._reassign(words[2], words[3])
        if len(words) < 3 or words[1] != b"automove":
            return ERROR
        level = unsigned(words[2])
        reply = BAD_FORMAT if level is None else ERROR
        if level is not None and level <= 2:
            reply = self._set(slab_automove=level)
        return b"" if words[-1] == b"noreply" else reply

    def _reassign(self, source: bytes, target: bytes) -> bytes:
        """Return the reply to `slabs reassign`. Pages move when another class needs one."""
        numbers = [_signed(source), _signed(target)]
        classes = self._items.slabs.classes
        if None in numbers:
            return BAD_FORMAT
        if numbers[0] == numbers[1]:
            return b"SAME src and dst class are identical\r\n"
        if numbers[0] == -1:
            others = (slab.id for slab in classes if slab.pages > 1 and slab.id != numbers[1])
            numbers[0] = next(others, -1)
        if not all(number is not None and 0 <= number <= len(classes) for number in numbers):
            return b"BADCLASS invalid src or dst class id\r\n"
        if not numbers[0] or classes[numbers[0] - 1].pages < 2:
            return b"NOSPARE source class has no spare pages\r\n"
        return OK

    # --- lru --------------------------------------------------------------------------------

    def _lru(self, words: list[bytes], _value: bytes | None) -> bytes:
        kind, count = words[1:2], len(words)
        reply = ERROR
        if kind == [b"tune"] and count >= 6:
            reply = self._tune(words[2:6])
        elif kind == [b"mode"] and count >= 3 and words[2] in (b"flat", b"segmented"):
            reply = self._set(lru_segmented="yes" if words[2] == b"segmented" else "no")
        elif kind == [b"temp_ttl"] and count >= 3 and (ttl := _signed(words[2])) is not None:
            reply = self._set(temp_lru="no") if ttl < 0 else self._set(
                temp_lru="yes", temporary_ttl=ttl
            )  # fmt: skip
        return b"" if words[-1] == b"noreply" else reply

    def _tune(self, words: list[bytes]) -> bytes:
        hot, warm = unsigned32(words[0]), unsigned32(words[1])
        try:
            factors = [float(word) for word in words[2:]]
        except ValueError:
            return ERROR
        if hot is None or warm is None or not all(map(math.isfinite, factors)):
            return ERROR
        if hot + warm > _MOST_PERCENT:
            return b"ERROR hot and warm pcts must not exceed 80\r\n"
        if min(factors) <= 0:
            return b"ERROR hot/warm age factors must be greater than 0\r\n"
        return self._set(
            hot_lru_pct=hot,
            warm_lru_pct=warm,
            hot_max_factor=f"{factors[0]:.2f}",
            warm_max_factor=f"{factors[1]:.2f}",
        )

    # --- lru_crawler ------------------------------------------------------------------------

    def _crawler(self, words: list[bytes], _value: bytes | None) -> bytes:
        is_on = self._server.tuned.get("lru_crawler", "yes") == "yes"
        match words[1:]:
            case [b"enable"]:
                if is_on:
                    return b"ERROR failed to start lru crawler thread\r\n"
                return self._set(lru_crawler="yes")
            case [b"disable"]:
                return self._set(lru_crawler="no")
            case [(b"sleep" | b"tocrawl") as kind, text]:
                number = unsigned32(text)
                if number is None:
                    return BAD_FORMAT
                if kind == b"sleep" and number > _LONGEST_SLEEP:
                    return b"CLIENT_ERROR sleep must be one second or less\r\n"
                return self._set(**{f"lru_crawler_{kind.decode()}": number})
            case [b"crawl" | b"metadump", _] if not is_on:
                return _CRAWLER_OFF
            case [b"crawl", text]:
                return _BAD_CLASS if _class_ids(text) is None else OK
            case [b"metadump", text]:
                return self._metadump(None if text == b"hash" else text)
        return ERROR

    def _metadump(self, text: bytes | None) -> bytes:
        ids = range(1, _LAST_CLASS + 1) if text is None else _class_ids(text)
        if ids is None:
            return _BAD_CLASS
        items = (
            item
            for slab in self._items.slabs.classes
            if slab.id in ids
            for item in list(slab.items.values())
        )
        return b"".join([*(self._dumped(i) for i in items if self._items.alive(i)), END])

    def _dumped(self, item: Item) -> bytes:
        started = self._items.started
        expires = item.expires + started if item.expires else -1
        return (
            f"key={quote_from_bytes(item.key, safe='-._~')} exp={expires} "
            f"la={item.time + started} cas={item.cas} fetch={'yes' if item.is_fetched else 'no'} "
            f"cls={item.slab.id} size={item.size}\n"
        ).encode()


def _signed(text: bytes) -> int | None:
    """Return an integer that may be negative; None if it is none."""
    number = unsigned(text.removeprefix(b"-"))
    return number if number is None or not text.startswith(b"-") else -number


def _class_ids(text: bytes) -> list[int] | None:
    """Return the ids of `1,2,3` or `all`; None if one is wrong."""
    if text == b"all":
        return list(range(1, _LAST_CLASS + 1))
    ids = [unsigned32(word) for word in text.split(b",")]
    right = [id_ for id_ in ids if id_ is not None and 1 <= id_ <= _LAST_CLASS]
    return right if len(right) == len(ids) else None

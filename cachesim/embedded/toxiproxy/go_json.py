"""JSON as Go's `encoding/json` reads and writes it, with the error texts of Toxiproxy's API.

Only the first value of a text is read. Field names match in upper and lower case, null leaves a
field unchanged, and bytes that are no UTF-8 become U+FFFD.
"""

import contextlib
import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, NoReturn

_MAX_DEPTH = 10_000

_BLANK = re.compile(r"[ \t\r\n]*+")
_STRING = re.compile(
    r'"([^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+)'
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_FRACTION = re.compile(r"\.")
_EXPONENT = re.compile(r"[eE][+-]?")
_HEX = re.compile("[0-9a-fA-F]*+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATES = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")
_WORDS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


class Number(str):
    """A number, as the text in the JSON."""

    __slots__ = ()


class Object(list[tuple[str, "Value"]]):
    """An object, as names with values in order. A name may appear twice."""


Value = None | bool | str | Number | Object | list["Value"]


class JsonError(ValueError):
    """A text that is no JSON, or a value of a wrong type."""


def decode(body: bytes) -> Value:
    """Read the first value of a text.

    Raises:
        JsonError: the text is no JSON.
    """
    # Python's own decoder is several times faster. If it refuses the text, or differs from Go, the
    # text is read again here.
    if b"\\u" not in body:
        with contextlib.suppress(ValueError, RecursionError):
            value: Value = _PYTHON.raw_decode(body.decode().lstrip(" \t\r\n"))[0]
            if isinstance(value, list):  # of `1.` it would read 1
                return value
    return _Reader(body).read()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_PYTHON = json.JSONDecoder(
    object_pairs_hook=Object, parse_int=Number, parse_float=Number, parse_constant=_refuse
)


class _Reader:
    """Reads values with Go's rules and errors."""

    def __init__(self, body: bytes) -> None:
        self._text = body.decode("latin-1")  # Go reports wrong characters byte by byte
        self._at = 0

    def read(self) -> Value:
        if not self._peek():
            raise JsonError("EOF")
        top: list[Value] = []
        # Incomplete arrays and objects; an object with the name of its next value.
        todo: list[tuple[list[Value] | Object, str | None]] = [(top, None)]
        while todo:
            value = self._value(len(todo))
            if isinstance(value, list) and not self._closes(value):
                name = self._name() if isinstance(value, Object) else None
                todo.append((value, name))
                continue
            # The value is complete, and so are the containers that end with it.
            while True:
                holder, name = todo.pop()
                _append(holder, name, value)
                if holder is top:
                    return top[0]
                if self._goes_on(holder):
                    todo.append((holder, self._name() if isinstance(holder, Object) else None))
                    break
                value = holder
        raise AssertionError  # the loop returns when the top value is complete

    def _peek(self) -> str:
        """Return the next character that is not a blank; an empty text at the end."""
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _value(self, depth: int) -> Value:
        """Read a value, or the beginning of an object or an array."""
        first = self._peek()
        if first in ("{", "["):
            if depth > _MAX_DEPTH:
                raise JsonError("exceeded max depth")
            self._at += 1
            return Object() if first == "{" else []
        if first == '"':
            return self._string()
        if first in _WORDS:
            return self._word(*_WORDS[first])
        if first and first in "-0123456789":
            return self._number()
        raise self._wrong("looking for beginning of value")

    def _closes(self, value: list[Value] | Object) -> bool:
        """Return whether a container that has just begun is empty."""
        if self._peek() != ("}" if isinstance(value, Object) else "]"):
            return False
        self._at += 1
        return True

    def _goes_on(self, holder: list[Value] | Object) -> bool:
        """Return whether another value follows in a container."""
        end, where = "]", "array element"
        if isinstance(holder, Object):
            end, where = "}", "object key:value pair"
        char = self._peek()
        if char not in (",", end):
            raise self._wrong(f"after {where}")
        self._at += 1
        return char == ","

    def _name(self) -> str:
        if self._peek() != '"':
            raise self._wrong("looking for beginning of object key string")
        name = self._string()
        if self._peek() != ":":
            raise self._wrong("after object key")
        self._at += 1
        return name

    def _word(self, word: str, value: bool | None) -> bool | None:
        for char in word:
            if self._text[self._at : self._at + 1] != char:
                raise self._wrong(f"in literal {word} (expecting '{char}')")
            self._at += 1
        return value

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        self._at = match.end() if match else self._at
        char = self._text[self._at : self._at + 1]
        if match and char == '"':
            self._at += 1
            return _unquote(match[1])
        if char == "\\":
            self._at += 1
            where = "in string escape code"
            if self._text[self._at : self._at + 1] == "u":
                where = r"in \u hexadecimal character escape"
                digits = _HEX.match(self._text, self._at + 1)
                self._at = digits.end() if digits else self._at
            raise self._wrong(where)
        raise self._wrong("in string literal")

    def _number(self) -> Number:
        match = _NUMBER.match(self._text, self._at)
        if not match:
            self._at += 1  # the minus
            raise self._wrong("in numeric literal")
        number, self._at = Number(match[0]), match.end()
        if "e" in number.lower():
            return number
        if rest := _EXPONENT.match(self._text, self._at):
            self._at = rest.end()
            raise self._wrong("in exponent of numeric literal")
        if "." not in number and _FRACTION.match(self._text, self._at):
            self._at += 1
            raise self._wrong("after decimal point in numeric literal")
        return number

    def _wrong(self, where: str) -> JsonError:
        char = self._text[self._at : self._at + 1]
        return JsonError(f"invalid character {_quoted(char)} {where}" if char else "unexpected EOF")


def _append(holder: list[Value] | Object, name: str | None, value: Value) -> None:
    if isinstance(holder, Object):
        holder.append((name or "", value))
    else:
        holder.append(value)


def _unquote(text: str) -> str:
    plain = text.encode("latin-1").decode("utf-8", "surrogateescape")
    if "\\" in plain:
        plain = _SURROGATES.sub("\ufffd", plain)
        plain = _ESCAPE.sub(
            lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPES.get(m[2], m[2]), plain
        )
        plain = _PAIR.sub(
            lambda m: chr(0x10000 + ((ord(m[1]) - 0xD800) << 10) + ord(m[2]) - 0xDC00), plain
        )
    return _SURROGATES.sub("\ufffd", plain)


def _quoted(char: str) -> str:
    """Return a character as Go's errors quote it."""
    special = {"'": r"'\''", '"': "'\"'", "\\": r"'\\'", "\a": r"'\a'", "\b": r"'\b'"}
    special |= {"\f": r"'\f'", "\n": r"'\n'", "\r": r"'\r'", "\t": r"'\t'", "\v": r"'\v'"}
    if char in special:
        return special[char]
    if char.isprintable():
        return f"'{char}'"
    return rf"'\x{ord(char):02x}'" if ord(char) < 0x80 else rf"'\u{ord(char):04x}'"


class Field(NamedTuple):
    """A field of a Go struct.

    Attributes:
        label: the field's name in errors.
        type: Go's name of the field's type.
        fields: the inner fields, if it is a struct.
    """

    label: str
    type: str
    fields: Mapping[str, "Field"] | None = None


class Decoder:
    """Finds the fields of Go structs in values.

    As in Go, decoding goes on after a value of a wrong type; `check` raises the first error.
    """

    def __init__(self) -> None:
        self._error: str | None = None

    def check(self) -> None:
        """Raise the first error.

        Raises:
            JsonError: a value had a wrong type.
        """
        if self._error is not None:
            raise JsonError(self._error)

    def struct(self, value: Value, fields: Mapping[str, Field], where: str) -> dict[str, Value]:
        """Return the known fields of an object, also of inner structs.

        Args:
            fields: the known fields by name in lower case.
            where: the target in the error if the value is no object.
        """
        found: dict[str, Value] = {}
        if value is None:
            return found
        if not isinstance(value, Object):
            self.fail(value, where)
            return found
        for name, item in value:
            key = name.lower()
            if key not in fields or item is None:
                continue
            field = fields[key]
            there = f"Go struct field {field.label} of type {field.type}"
            if field.fields is not None:
                before = found.get(key)
                inner = Object(before if isinstance(before, Object) else ())
                inner += self.struct(item, field.fields, there).items()
                found[key] = inner
            elif self._fits(item, field.type, there):
                found[key] = item
        return found

    def fail(self, value: Value, where: str) -> None:
        """Record that a value has a wrong type."""
        self._note(f"{_kind(value)} into {where}")

    def _fits(self, value: Value, kind: str, where: str) -> bool:
        if isinstance(value, Number) and kind in _NUMBERS:
            if _NUMBERS[kind](value) is None:
                self._note(f"number {value} into {where}")
                return False
            return True
        wanted = {"bool": bool, "string": str}.get(kind)
        if wanted is None or not isinstance(value, wanted) or isinstance(value, Number):
            self.fail(value, where)
            return False
        return True

    def _note(self, what: str) -> None:
        if self._error is None:
            self._error = f"json: cannot unmarshal {what}"


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Number):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Object) else "array"


def _int64(number: str) -> int | None:
    """Parse a whole number of 64 bits; None if the text is not one."""
    if len(number) > 20 or not number.removeprefix("-").isdigit():
        return None
    value = int(number)
    return value if -(2**63) <= value < 2**63 else None


def _float32(number: str) -> float | None:
    """Return the nearest number of single precision; None if it is out of range."""
    try:
        value: float = struct.unpack("<f", struct.pack("<f", float(number)))[0]
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


_NUMBERS: Mapping[str, Callable[[str], float | None]] = {
    "int": _int64,
    "int64": _int64,
    "float32": _float32,
}


def as_int(value: Value) -> int:
    """Convert a value that `Decoder` accepted as a whole number."""
    return int(str(value))


def as_float(value: Value) -> float:
    """Convert a value that `Decoder` accepted as a number of single precision."""
    return _float32(str(value)) or 0.0


Encodable = None | bool | int | float | str | Sequence["Encodable"] | Mapping[str, "Encodable"]


def encode(value: Encodable) -> str:
    """Write a value as JSON. Floats have single precision."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number_text(value)
        case str():
            return f'"{_UNSAFE.sub(_escaped, value)}"'
        case Mapping():
            return "{" + ",".join(f"{encode(k)}:{encode(v)}" for k, v in value.items()) + "}"
    return "[" + ",".join(map(encode, value)) + "]"


_UNSAFE = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029]')
_SHORT = {'"': r"\"", "\\": r"\\", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _escaped(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or rf"\u{ord(match[0]):04x}"


def _number_text(value: float) -> str:
    """Return the shortest text that equals this number in single precision."""
    digits = next(
        (text for n in range(9) if _float32(text := f"{value:.{n}e}") == value), f"{value:.8e}"
    )
    if value and not 1e-6 <= abs(value) < 1e21:
        mantissa, exponent = digits.split("e")
        return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"
    return f"{Decimal(digits):f}"

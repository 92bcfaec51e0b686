"""Toxiproxy's HTTP API, for the proxies of an embedded Toxiproxy.

Paths, JSON, statuses and texts are those of Toxiproxy 2.12, down to the errors of its JSON library.
"""

from base64 import b32hexencode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from email.utils import formatdate
from http import HTTPStatus
from posixpath import normpath
from secrets import token_bytes
from urllib.parse import quote, unquote_to_bytes

from cachesim.aio.http import Request, Response
from cachesim.embedded.toxiproxy.chain import AppliedToxic
from cachesim.embedded.toxiproxy.go_json import (
    Decoder,
    Encodable,
    Field,
    JsonError,
    Object,
    Value,
    as_float,
    as_int,
    decode,
    encode,
)
from cachesim.embedded.toxiproxy.proxies import PopulateError, Proxies, parse_stream
from cachesim.embedded.toxiproxy.proxy import Proxy, ProxySpec
from cachesim.embedded.toxiproxy.stages import Noop
from cachesim.errors import ToxiproxyError
from cachesim.toxiproxy.toxics import (
    BOTH,
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

VERSION = "2.12.0"
"""The version of Toxiproxy that has this API."""

_PATH_SAFE = "/$&+,:;=@"  # characters that Go does not escape in a path
_ID = "X-Toxiproxy-Request-Id"
_JSON = {"Content-Type": "application/json"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}

# Go's names of the types, for errors.
_GO_NAMES: dict[type[Toxic], str] = {
    Latency: "LatencyToxic",
    Bandwidth: "BandwidthToxic",
    SlowClose: "SlowCloseToxic",
    Timeout: "TimeoutToxic",
    ResetPeer: "ResetToxic",
    Slicer: "SlicerToxic",
    LimitData: "LimitDataToxic",
    Noop: "NoopToxic",
}
_TYPES = {cls.type: cls for cls in _GO_NAMES}
_SPEC_TYPES = {"name": "string", "listen": "string", "upstream": "string"}
_SPEC = {
    **{name: Field(f"Proxy.{name}", kind) for name, kind in _SPEC_TYPES.items()},
    "enabled": Field("Proxy.enabled", "bool"),
    "logger": Field("Proxy.Logger", "zerolog.Logger", {}),
}
_SPECS = {
    **{name: Field(f".Proxy.{name}", kind) for name, kind in _SPEC_TYPES.items()},
    "enabled": Field(".enabled", "bool"),
    "logger": Field(".Proxy.Logger", "zerolog.Logger", {}),
}
_SPECS_GO = 'struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }'
_TOXIC = {
    **{name: Field(f"ToxicWrapper.{name}", "string") for name in ("name", "type", "stream")},
    "toxicity": Field("ToxicWrapper.toxicity", "float32"),
    "attributes": Field("ToxicWrapper.attributes", "toxics.NoopToxic", {}),
}
_TOXIC_CHANGE_GO = (
    'struct { Attributes interface {} "json:\\"attributes\\""; '
    'Toxicity float32 "json:\\"toxicity\\"" }'
)


class ProxyApi:
    """Toxiproxy's API without HTTP connections."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies

    def handle(self, request: Request) -> Response:
        """Handle a request. Errors become responses too."""
        response = self._route(request)
        return response._replace(headers={**response.headers, "Date": formatdate(usegmt=True)})

    def _route(self, request: Request) -> Response:
        quoted, mark, query = request.target.partition("?")
        path = unquote_to_bytes(quoted).decode("utf-8", "replace")
        if (clean := _clean(path)) != path:
            return Response(301, {"Location": quote(clean, safe=_PATH_SAFE) + mark + query})
        handlers = self._handlers(path.split("/"), request.body)
        if not handlers:
            return _text(404, "404 page not found")
        if request.method not in handlers:
            return Response(405, {})
        if request.headers.get("user-agent", "").startswith("Mozilla/"):
            response = _text(403, "User agent not allowed")
        else:
            response = self._answer(handlers[request.method])
        return response._replace(headers={**response.headers, _ID: _new_id()})

    def _answer(self, handler: Callable[[], Response]) -> Response:
        try:
            return handler()
        except ToxiproxyError as error:
            return _error(str(error), error.status or 500)
        except JsonError as error:
            return _error(f"bad request body: {error}", 400)

    def _handlers(self, path: Sequence[str], body: bytes) -> Mapping[str, Callable[[], Response]]:
        """Return the handlers of a path by method."""
        match path:
            case ["", "proxies"]:
                return {"GET": self._index, "POST": lambda: self._create(body)}
            case ["", "populate"]:
                return {"POST": lambda: self._populate(body)}
            case ["", "reset"]:
                return {"POST": self._reset}
            case ["", "version"]:
                return {"GET": self._version}
            case ["", "proxies", name] if name:
                return {
                    "GET": lambda: _json(200, _proxy_json(self._proxies.find(name))),
                    "POST": lambda: self._update(name, body),
                    "PATCH": lambda: self._update(name, body),
                    "DELETE": lambda: self._delete(name),
                }
            case ["", "proxies", name, "toxics"] if name:
                return {
                    "GET": lambda: _json(200, _toxics_json(self._proxies.find(name))),
                    "POST": lambda: self._add_toxic(name, body),
                }
            case ["", "proxies", name, "toxics", toxic] if name and toxic:
                return {
                    "GET": lambda: _json(200, _toxic_json(self._find_toxic(name, toxic))),
                    "POST": lambda: self._update_toxic(name, toxic, body),
                    "PATCH": lambda: self._update_toxic(name, toxic, body),
                    "DELETE": lambda: self._remove_toxic(name, toxic),
                }
        return {}

    def _version(self) -> Response:
        text = f'{{"version": "{VERSION}"}}\n'
        return Response(200, {"Content-Type": "application/json;charset=utf-8"}, text.encode())

    def _index(self) -> Response:
        return _json(
            200, {name: _proxy_json(proxy) for name, proxy in sorted(self._proxies.items())}
        )

    def _create(self, body: bytes) -> Response:
        decoder = Decoder()
        found = decoder.struct(decode(body), _SPEC, "Go value of type toxiproxy.Proxy")
        decoder.check()
        return _json(201, _proxy_json(self._proxies.create(_spec(found))))

    def _populate(self, body: bytes) -> Response:
        made: Sequence[Proxy] = ()
        failed: dict[str, Encodable] = {}
        status = 201
        try:
            made = self._proxies.populate(_specs(decode(body)))
        except (ToxiproxyError, JsonError) as error:
            text, status = f"bad request body: {error}", 400
            if isinstance(error, ToxiproxyError):
                text, status = str(error), error.status or 500
            if isinstance(error, PopulateError):
                made = error.made
            failed = {"error": text, "status": status}
        return _json(status, failed | {"proxies": [_proxy_json(proxy) for proxy in made] or None})

    def _update(self, name: str, body: bytes) -> Response:
        self._proxies.find(name)
        decoder = Decoder()
        found = decoder.struct(decode(body), _SPEC, "Go value of type toxiproxy.Proxy")
        decoder.check()
        proxy = self._proxies.update(
            name,
            listen=_text_of(found, "listen"),
            upstream=_text_of(found, "upstream"),
            enabled=bool(found["enabled"]) if "enabled" in found else None,
        )
        return _json(200, _proxy_json(proxy))

    def _delete(self, name: str) -> Response:
        self._proxies.delete(name)
        return Response(204, {})

    def _reset(self) -> Response:
        self._proxies.reset()
        return Response(204, {})

    def _add_toxic(self, proxy: str, body: bytes) -> Response:
        self._proxies.find(proxy)
        value = decode(body)
        decoder = Decoder()
        found = decoder.struct(value, _TOXIC, "Go value of type toxics.ToxicWrapper")
        decoder.check()
        stream = _text_of(found, "stream")
        stream = "downstream" if stream is None else stream
        parse_stream(stream)
        kind = _TYPES.get(_text_of(found, "type") or "")
        if kind is None:
            raise ToxiproxyError("invalid toxic type", 400)
        name = _text_of(found, "name") or f"{kind.type}_{stream}"
        if self._proxies[proxy].toxic(name) is not None:
            raise ToxiproxyError("toxic already exists", 409)
        # The type decides which attributes there are.
        wrapper = {"attributes": _attributes(kind)}
        found |= decoder.struct(value, wrapper, "")
        decoder.check()
        zero = dict.fromkeys((field.name for field in fields(kind)), 0)
        toxic = _toxic(kind, zero | _numbers(found))
        toxicity = as_float(found["toxicity"]) if "toxicity" in found else 1.0
        return _json(
            200, _toxic_json(self._proxies.add_toxic(proxy, name, toxic, stream, toxicity))
        )

    def _update_toxic(self, proxy: str, name: str, body: bytes) -> Response:
        before = self._find_toxic(proxy, name).toxic
        kinds = {
            "attributes": _attributes(type(before), ""),
            "toxicity": Field(".toxicity", "float32"),
        }
        decoder = Decoder()
        found = decoder.struct(decode(body), kinds, f"Go value of type {_TOXIC_CHANGE_GO}")
        decoder.check()
        toxic = _toxic(type(before), before.attributes | _numbers(found))
        toxicity = as_float(found["toxicity"]) if "toxicity" in found else None
        return _json(200, _toxic_json(self._proxies.update_toxic(proxy, name, toxic, toxicity)))

    def _remove_toxic(self, proxy: str, name: str) -> Response:
        self._proxies.remove_toxic(proxy, name)
        return Response(204, {})

    def _find_toxic(self, proxy: str, name: str) -> AppliedToxic:
        toxic = self._proxies.find(proxy).toxic(name)
        if toxic is None:
            raise ToxiproxyError("toxic not found", 404)
        return toxic


def _new_id() -> str:
    """Return an id of a request: 20 letters and digits, as those of Go's `xid`."""
    return b32hexencode(token_bytes(12)).decode().lower().rstrip("=")


def _clean(path: str) -> str:
    """Return a path without empty parts, `.` and `..`. A slash at the end stays."""
    clean = normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _specs(value: Value) -> list[ProxySpec]:
    """Return the proxies of a `populate` request.

    Raises:
        JsonError: the value is no list of proxies.
    """
    decoder = Decoder()
    items: Sequence[Value] = ()
    if isinstance(value, list) and not isinstance(value, Object):
        items = value
    elif value is not None:
        decoder.fail(value, f"Go value of type []{_SPECS_GO}")
    found = [decoder.struct(item, _SPECS, f"Go value of type {_SPECS_GO}") for item in items]
    decoder.check()
    return [_spec(spec) for spec in found]


def _spec(found: Mapping[str, Value]) -> ProxySpec:
    texts = {name: str(found.get(name, "")) for name in _SPEC_TYPES}
    return ProxySpec(**texts, enabled=bool(found.get("enabled", True)))


def _text_of(found: Mapping[str, Value], name: str) -> str | None:
    return str(found[name]) if name in found else None


def _attributes(kind: type[Toxic], outer: str = "ToxicWrapper") -> Field:
    """Return the field of a toxic's attributes."""
    go_name = _GO_NAMES[kind]
    number = "int" if kind is Slicer else "int64"
    inner = {
        field.name: Field(f"{go_name}.attributes.{field.name}", number) for field in fields(kind)
    }
    return Field(f"{outer}.attributes", f"toxics.{go_name}", inner)


def _numbers(found: Mapping[str, Value]) -> dict[str, int]:
    attributes = found.get("attributes")
    items = attributes if isinstance(attributes, Object) else ()
    return {name: as_int(value) for name, value in items}


def _toxic(kind: type[Toxic], attributes: Mapping[str, int]) -> Toxic:
    try:
        return kind(**attributes)
    except ValueError as error:
        # A real Toxiproxy accepts such values and treats them as 0, or crashes.
        raise ToxiproxyError(f"bad request body: {error}", 400) from error


def _proxy_json(proxy: Proxy) -> dict[str, Encodable]:
    return {
        "name": proxy.name,
        "listen": proxy.listen,
        "upstream": proxy.upstream,
        "enabled": proxy.enabled,
        "Logger": {},
        "toxics": _toxics_json(proxy),
    }


def _toxics_json(proxy: Proxy) -> list[Encodable]:
    return [_toxic_json(toxic) for stream in BOTH for toxic in proxy.toxics[stream]]


def _toxic_json(applied: AppliedToxic) -> dict[str, Encodable]:
    return {
        "attributes": applied.toxic.attributes,
        "name": applied.name,
        "type": applied.toxic.type,
        "stream": applied.stream,
        "toxicity": float(applied.toxicity),
    }


def _json(status: int, value: Encodable) -> Response:
    return Response(status, _JSON, encode(value).encode())


def _text(status: int, text: str) -> Response:
    return Response(status, _TEXT, f"{text}\n".encode())


def _error(message: str, status: int) -> Response:
    return _text(HTTPStatus(status), encode({"error": message, "status": status}))

"""Commands by which connections ask to be told things, or to wait: tracking, pause, MONITOR."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.connection import session_of
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.connections.tracking import Tracked
from cachesim.embedded.redis.dispatch.executor import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, words
from cachesim.protocols.resp import Error, Pairs, Unordered


def pause(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT PAUSE milliseconds [WRITE | ALL]."""
    mode = arguments[3].lower() if len(arguments) == 4 else b"all"
    if len(arguments) > 4 or mode not in (b"write", b"all"):
        raise Error("ERR CLIENT PAUSE mode must be WRITE or ALL")
    milliseconds = integer(arguments[2], "ERR timeout is not an integer or out of range")
    if milliseconds < 0:
        raise Error("ERR timeout is negative")
    client.server.pause_clients(milliseconds / 1000, everything=mode == b"all")
    return "OK"


def unpause(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT UNPAUSE."""
    client.server.end_client_pause()
    return "OK"


def monitor(client: Client, arguments: list[bytes]) -> Answer:
    """MONITOR."""
    session = session_of(client)
    if not client.may_block:
        raise Error("ERR MONITOR isn't allowed for DENY BLOCKING client")
    session.monitors = True
    client.server.monitors[session] = None
    return "OK"


def getredir(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT GETREDIR."""
    tracked = session_of(client).tracking
    return -1 if tracked is None else tracked.redirect


def trackinginfo(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT TRACKINGINFO."""
    tracked = session_of(client).tracking
    if tracked is None:
        return Pairs([b"flags", Unordered([b"off"]), b"redirect", -1, b"prefixes", []])
    caching = "" if tracked.caching is None else f"caching-{'yes' if tracked.caching else 'no'}"
    flags = [
        "on",
        "bcast" if tracked.broadcasts else "",
        tracked.mode,
        caching,
        "noloop" if tracked.noloop else "",
        "broken_redirect" if tracked.is_broken else "",
    ]
    shown = Unordered(flag.encode() for flag in flags if flag)
    prefixes = list(tracked.prefixes)
    return Pairs([b"flags", shown, b"redirect", tracked.redirect, b"prefixes", prefixes])


def _wish(client: Client, options: list[bytes]) -> Tracked:
    """What CLIENT TRACKING ON asks for."""
    tracked = Tracked()
    modes: set[str] = set()
    at = 0
    while at < len(options):
        word, more = options[at].lower(), at + 1 < len(options)
        if word == b"redirect" and more:
            at += 1
            if tracked.redirect:
                raise Error("ERR A client can only redirect to a single other client")
            tracked.redirect = integer(options[at], "ERR Invalid client ID")
            if tracked.redirect not in client.server.sessions:
                raise Error("ERR The client ID you want redirect to does not exist")
        elif word == b"prefix" and more:
            at += 1
            tracked.prefixes.append(options[at])
        elif word == b"bcast":
            tracked.broadcasts = True
        elif word in (b"optin", b"optout"):
            modes.add(word.decode())
        elif word == b"noloop":
            tracked.noloop = True
        else:
            raise Error(SYNTAX)
        at += 1
    if tracked.prefixes and not tracked.broadcasts:
        raise Error("ERR PREFIX option requires BCAST mode to be enabled")
    if tracked.broadcasts and modes:
        raise Error("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if len(modes) > 1:
        raise Error("ERR You can't use both OPTIN and OPTOUT")
    tracked.mode = next(iter(modes), "")
    return tracked


def tracking(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX p]... [BCAST] [OPTIN] [OPTOUT] [NOLOOP]."""
    session = session_of(client)
    tracked = _wish(client, arguments[3:])
    switch = arguments[2].lower()
    if switch not in (b"on", b"off"):
        raise Error(SYNTAX)
    if switch == b"off":
        client.server.tracking.stop(session)
        return "OK"
    present = session.tracking
    again = "before disabling tracking for this client, and then re-enabling it with a different"
    if present is not None and present.broadcasts is not tracked.broadcasts:
        raise Error(f"ERR You can't switch BCAST mode on/off {again} mode.")
    if present is not None and {present.mode, tracked.mode} == {"optin", "optout"}:
        raise Error(f"ERR You can't switch OPTIN/OPTOUT mode {again} mode.")
    for index, one in enumerate(tracked.prefixes):
        for other in tracked.prefixes[index + 1 :]:
            if one.startswith(other) or other.startswith(one):
                raise Error(
                    f"ERR Prefix '{words(one)}' overlaps with another provided prefix "
                    f"'{words(other)}'. Prefixes for a single client must not overlap."
                )
    client.server.tracking.start(session, tracked)
    return "OK"


def caching(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT CACHING YES | NO."""
    tracked = session_of(client).tracking
    if tracked is None or not tracked.mode:
        raise Error(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN "
            "or OPTOUT mode enabled"
        )
    word = arguments[2].lower()
    if word not in (b"yes", b"no"):
        raise Error(SYNTAX)
    wanted = "optin" if word == b"yes" else "optout"
    if tracked.mode != wanted:
        raise Error(
            f"ERR CLIENT CACHING {word.upper().decode()} is only valid when tracking is enabled "
            f"in {wanted.upper()} mode."
        )
    tracked.caching = word == b"yes"
    return "OK"


HANDLERS: Mapping[str, Handler] = {
    "client|caching": caching,
    "client|getredir": getredir,
    "client|pause": pause,
    "client|tracking": tracking,
    "client|trackinginfo": trackinginfo,
    "client|unpause": unpause,
    "monitor": monitor,
}

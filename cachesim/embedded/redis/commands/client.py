"""The CLIENT commands of the group `connection`: list, kill, pause, unblock and track clients."""

from collections.abc import Callable, Mapping

from cachesim.embedded.redis.commands.common.help import help_of, subcommand_error
from cachesim.embedded.redis.commands.common.session import session_of
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.connections.session import Session
from cachesim.embedded.redis.connections.tracking import Tracked
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, printed
from cachesim.protocols.resp import Error, Pairs, Unordered, Verbatim

_KINDS = ("normal", "master", "replica", "slave", "pubsub")


def check_name(name: bytes) -> None:
    """Check the name of a client.

    Raises:
        Error: CLIENT LIST can't show the name.
    """
    if any(not 0x21 <= char <= 0x7E for char in name):
        raise Error("ERR Client names cannot contain spaces, newlines or special characters.")


def id_(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT ID."""
    return client.id


def info(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT INFO."""
    session_of(client).last_request = arguments[:2]
    return Verbatim(f"{client.describe()}\n".encode())


def getname(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT GETNAME."""
    return client.name or None


def setname(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT SETNAME name."""
    check_name(arguments[2])
    client.name = arguments[2]
    return "OK"


def _kind(session: Session) -> str:
    if session.is_replica:
        return "replica"
    return "pubsub" if session.is_subscribed else "normal"


def _known_kind(word: bytes) -> str:
    kind = word.lower().decode(errors="replace")
    if kind not in _KINDS:
        raise Error(f"ERR Unknown client type '{printed(word)}'")
    return "replica" if kind == "slave" else kind


def list_(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT LIST [TYPE type | ID id...]."""
    session_of(client).last_request = arguments[:2]
    sessions = list(client.server.clients.sessions.values())
    rest = arguments[2:]
    if len(rest) == 2 and rest[0].lower() == b"type":
        kind = _known_kind(rest[1])
        sessions = [session for session in sessions if _kind(session) == kind]
    elif len(rest) > 1 and rest[0].lower() == b"id":
        ids = [integer(word, "ERR Invalid client ID") for word in rest[1:]]
        sessions = [s for i in ids if (s := client.server.clients.sessions.get(i)) is not None]
    elif rest:
        raise Error(SYNTAX)
    return Verbatim("".join(f"{session.describe()}\n" for session in sessions).encode())


def _filter(client: Client, name: bytes, value: bytes) -> Callable[[Session], bool]:
    """Return a function that tells whether a filter of CLIENT KILL matches.

    Raises:
        Error: there is no such filter, or its value is wrong.
    """
    if name == b"id":
        id_ = integer(value, "ERR client-id should be greater than 0")
        if id_ < 1:
            raise Error("ERR client-id should be greater than 0")
        return lambda session: session.id == id_
    if name == b"type":
        kind = _known_kind(value)
        return lambda session: _kind(session) == kind
    if name in (b"addr", b"laddr"):
        text = value.decode(errors="replace")
        if name == b"addr":
            return lambda session: session.address == text
        return lambda session: session.local_address == text
    if name == b"user":
        user = client.server.acl.users.get(value)
        if user is None:
            raise Error(f"ERR No such user '{printed(value)}'")
        return lambda session: session.user is user
    raise Error(SYNTAX)


def kill(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT KILL addr | [ID id] [TYPE type] [USER name] [ADDR a] [LADDR a] [SKIPME yes|no]."""
    everyone = list(client.server.clients.sessions.values())
    if len(arguments) == 3:
        matches = _filter(client, b"addr", arguments[2])
        found = [session for session in everyone if matches(session)]
        if not found:
            raise Error("ERR No such client")
        for session in found:
            session.kill(client)
        return "OK"
    skip_me, filters = True, []
    for word, value in zip(arguments[2::2], arguments[3::2], strict=False):
        if word.lower() == b"skipme" and value.lower() in (b"yes", b"no"):
            skip_me = value.lower() == b"yes"
        else:
            filters.append(_filter(client, word.lower(), value))
    if len(arguments) % 2:
        raise Error(SYNTAX)
    found = [
        session
        for session in everyone
        if all(passes(session) for passes in filters) and not (skip_me and session is client)
    ]
    for session in found:
        session.kill(client)
    return len(found)


def reply(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT REPLY ON | OFF | SKIP."""
    session = session_of(client)
    mode = arguments[2].lower()
    if mode == b"on":
        session.mutes = 0
        return "OK"
    if mode == b"off":
        session.mutes = -1
    elif mode == b"skip":
        if session.mutes >= 0:
            session.mute_next()
    else:
        raise Error(SYNTAX)
    return NO_REPLY


def unblock(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT UNBLOCK id [TIMEOUT | ERROR]."""
    if len(arguments) > 4:
        raise subcommand_error(arguments)
    reason = arguments[3].lower() if len(arguments) == 4 else b"timeout"
    if reason not in (b"timeout", b"error"):
        raise Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    session = client.server.clients.sessions.get(integer(arguments[2]))
    if session is None or session.blocked is None:
        return 0
    if reason == b"error":
        session.blocked.unblock(Error("UNBLOCKED client unblocked via CLIENT UNBLOCK"))
    else:
        session.blocked.unblock(None)
    return 1


def no_evict(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT NO-EVICT ON | OFF."""
    if arguments[2].lower() not in (b"on", b"off"):
        raise Error(SYNTAX)
    session_of(client).shown.is_kept = arguments[2].lower() == b"on"
    return "OK"


def no_touch(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT NO-TOUCH ON | OFF, since 7.2."""
    if arguments[2].lower() not in (b"on", b"off"):
        raise Error(SYNTAX)
    session_of(client).shown.is_quiet = arguments[2].lower() == b"on"
    return "OK"


def setinfo(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT SETINFO LIB-NAME | LIB-VER value, since 7.2."""
    session, name, value = session_of(client), arguments[2].lower(), arguments[3]
    if name not in (b"lib-name", b"lib-ver"):
        raise Error(f"ERR Unrecognized option '{printed(arguments[2])}'")
    if not all(33 <= byte <= 126 for byte in value):
        raise Error(f"ERR {name.decode()} cannot contain spaces, newlines or special characters.")
    if name == b"lib-name":
        session.shown.library = value
    else:
        session.shown.library_version = value
    return "OK"


def capa(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT CAPA capability..., of Valkey: those that it does not know are ignored."""
    if any(word.lower() == b"redirect" for word in arguments[2:]):
        session_of(client).shown.capabilities = "r"
    return "OK"


# --- CLIENT PAUSE, CLIENT TRACKING -----------------------------------------------------------


def pause(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT PAUSE milliseconds [WRITE | ALL]."""
    if len(arguments) > 4:
        raise subcommand_error(arguments)
    mode = arguments[3].lower() if len(arguments) == 4 else b"all"
    if mode not in (b"write", b"all"):
        raise Error("ERR CLIENT PAUSE mode must be WRITE or ALL")
    milliseconds = integer(arguments[2], "ERR timeout is not an integer or out of range")
    if milliseconds < 0:
        raise Error("ERR timeout is negative")
    client.server.clients.pause(milliseconds / 1000, everything=mode == b"all")
    return "OK"


def unpause(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT UNPAUSE."""
    client.server.clients.unpause()
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


def _tracking_options(client: Client, options: list[bytes]) -> Tracked:
    """Read the options of CLIENT TRACKING.

    Raises:
        Error: an option is wrong.
    """
    tracked = Tracked()
    modes: set[str] = set()
    at = 0
    while at < len(options):
        word, more = options[at].lower(), at + 1 < len(options)
        if word == b"redirect" and more:
            at += 1
            if tracked.redirect:
                raise Error("ERR A client can only redirect to a single other client")
            tracked.redirect = integer(options[at])
            if tracked.redirect not in client.server.clients.sessions:
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
    tracked.mode = " ".join(sorted(modes))
    return tracked


def tracking(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX p]... [BCAST] [OPTIN] [OPTOUT] [NOLOOP]."""
    session = session_of(client)
    tracked = _tracking_options(client, arguments[3:])
    switch = arguments[2].lower()
    if switch not in (b"on", b"off"):
        raise Error(SYNTAX)
    if switch == b"off":
        client.server.tracking.stop(session)
        return "OK"
    if tracked.prefixes and not tracked.broadcasts:
        raise Error("ERR PREFIX option requires BCAST mode to be enabled")
    present = session.tracking
    again = "before disabling tracking for this client, and then re-enabling it with a different"
    if present is not None and present.broadcasts is not tracked.broadcasts:
        raise Error(f"ERR You can't switch BCAST mode on/off {again} mode.")
    if tracked.broadcasts and tracked.mode:
        raise Error("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if " " in tracked.mode:
        raise Error("ERR You can't specify both OPTIN mode and OPTOUT mode")
    if present is not None and {present.mode, tracked.mode} == {"optin", "optout"}:
        raise Error(f"ERR You can't switch OPTIN/OPTOUT mode {again} mode.")
    former = [] if present is None else present.prefixes
    for index, one in enumerate(tracked.prefixes):
        for what, others in (
            ("an existing", former),
            ("another provided", tracked.prefixes[index + 1 :]),
        ):
            for other in others:
                if one.startswith(other) or other.startswith(one):
                    raise Error(
                        f"ERR Prefix '{printed(one)}' overlaps with {what} prefix "
                        f"'{printed(other)}'. Prefixes for a single client must not overlap."
                    )
    if tracked.broadcasts:
        tracked.prefixes = list(dict.fromkeys([*former, *(tracked.prefixes or [b""])]))
    client.server.tracking.start(session, tracked)
    return "OK"


def caching(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT CACHING YES | NO."""
    tracked = session_of(client).tracking
    if tracked is None:
        raise Error(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN "
            "or OPTOUT mode enabled"
        )
    word = arguments[2].lower()
    if word not in (b"yes", b"no"):
        raise Error(SYNTAX)
    mode = "optin" if word == b"yes" else "optout"
    if tracked.mode != mode:
        raise Error(
            f"ERR CLIENT CACHING {word.upper().decode()} is only valid when tracking is enabled "
            f"in {mode.upper()} mode."
        )
    tracked.caching, tracked.is_used = word == b"yes", False
    client.update_guards()
    return "OK"


HANDLERS: Mapping[str, Handler] = {
    **help_of("client"),
    "client|caching": caching,
    "client|capa": capa,
    "client|getname": getname,
    "client|getredir": getredir,
    "client|id": id_,
    "client|info": info,
    "client|kill": kill,
    "client|list": list_,
    "client|no-evict": no_evict,
    "client|no-touch": no_touch,
    "client|pause": pause,
    "client|reply": reply,
    "client|setinfo": setinfo,
    "client|setname": setname,
    "client|tracking": tracking,
    "client|trackinginfo": trackinginfo,
    "client|unblock": unblock,
    "client|unpause": unpause,
}

"""The ACL commands of the group `server`: users and their permissions."""

import secrets
from collections.abc import Mapping
from typing import Any

from cachesim.embedded.redis.commands.common.help import help_of, subcommand_error
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.dispatch.selector import CATEGORIES, has_blanks, in_category
from cachesim.embedded.redis.keyspace.values import integer, printed
from cachesim.protocols.resp import Error, Pairs, Reply, Unordered


def acl_whoami(client: Client, arguments: list[bytes]) -> Answer:
    """ACL WHOAMI."""
    return client.user.name if client.user is not None else None


def acl_users(client: Client, arguments: list[bytes]) -> Answer:
    """ACL USERS."""
    return sorted(client.server.acl.users)


def acl_list(client: Client, arguments: list[bytes]) -> Answer:
    """ACL LIST."""
    users = sorted(client.server.acl.users.items())
    return [user.describe().encode(errors="surrogateescape") for _, user in users]


def acl_cat(client: Client, arguments: list[bytes]) -> Answer:
    """ACL CAT [category]."""
    if len(arguments) == 2:
        return [category.encode() for category in CATEGORIES]
    category = arguments[2].lower().decode(errors="replace")
    if len(arguments) > 3:
        raise subcommand_error(arguments)
    if category not in CATEGORIES:
        raise Error(f"ERR Unknown category '{printed(arguments[2])}'")
    return [one.name.encode() for one in in_category(client.server.table, category)]


def acl_genpass(client: Client, arguments: list[bytes]) -> Answer:
    """ACL GENPASS [bits]."""
    if len(arguments) > 3:
        raise subcommand_error(arguments)
    bits = integer(arguments[2]) if len(arguments) == 3 else 256
    if not 0 < bits <= 4096:
        raise Error(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a "
            "positive number up to 4096"
        )
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits].encode()


def acl_setuser(client: Client, arguments: list[bytes]) -> Answer:
    """ACL SETUSER name [rule...]."""
    server = client.server
    if has_blanks(arguments[2]):
        raise Error("ERR Usernames can't contain spaces or null characters")
    server.acl.set_user(arguments[2], arguments[3:])
    for session in server.clients.sessions.values():
        session.authenticate_as(session.user)
    return "OK"


def acl_deluser(client: Client, arguments: list[bytes]) -> Answer:
    """ACL DELUSER name..."""
    server = client.server
    if b"default" in arguments[2:]:
        raise Error("ERR The 'default' user cannot be removed")
    gone = [user for name in arguments[2:] if (user := server.acl.users.pop(name, None))]
    for session in list(server.clients.sessions.values()):
        if session.user in gone:
            session.kill(client)
    return len(gone)


def acl_getuser(client: Client, arguments: list[bytes]) -> Answer:
    """ACL GETUSER name."""
    user = client.server.acl.users.get(arguments[2])
    if user is None:
        return None

    def selector(one: Any) -> list[Reply]:
        return [
            b"commands", one.command_rules().encode(errors="surrogateescape"),
            b"keys", one.key_rules().encode(errors="surrogateescape"),
            b"channels", one.channel_rules().encode(errors="surrogateescape"),
        ]  # fmt: skip

    return Pairs(
        [
            b"flags", Unordered(flag.encode() for flag in user.flags),
            b"passwords", [digest.encode() for digest in user.hashes],
            *selector(user.root),
            b"selectors", [Pairs(selector(one)) for one in user.selectors],
        ]
    )  # fmt: skip


def acl_dryrun(client: Client, arguments: list[bytes]) -> Answer:
    """ACL DRYRUN user command argument..."""
    user = client.server.acl.users.get(arguments[2])
    if user is None:
        raise Error(f"ERR User '{printed(arguments[2])}' not found")
    try:
        entry = client.server.executor.entries.find(arguments[3:])
    except Error as error:
        if "wrong number" in error.text:
            raise
        raise Error(f"ERR Command '{printed(arguments[3])}' not found") from None
    denial = user.denial(entry.command, arguments[3:])
    if denial is None:
        return "OK"
    kind, _, thing = denial
    if kind == "command":
        return f"This user has no permissions to run the '{entry.name}' command".encode()
    return b"This user has no permissions to access the '%b' %b" % (thing, kind.encode())


def acl_log(client: Client, arguments: list[bytes]) -> Answer:
    """ACL LOG [count | RESET]."""
    log = client.server.acl_log
    if len(arguments) == 3 and arguments[2].lower() == b"reset":
        log.reset()
        return "OK"
    if len(arguments) > 3:
        raise subcommand_error(arguments)
    count = integer(arguments[2]) if len(arguments) == 3 else 10
    entries = log.last(max(0, count))
    return [Pairs(word for pair in entry.items() for word in pair) for entry in entries]  # type: ignore[misc]


def acl_file(client: Client, arguments: list[bytes]) -> Answer:
    """ACL LOAD, ACL SAVE."""
    raise Error(
        "ERR This Redis instance is not configured to use an ACL file. You may want to specify "
        "users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a "
        "Redis configuration file set) in order to store users in the Redis configuration."
    )


HANDLERS: Mapping[str, Handler] = {
    **help_of("acl"),
    "acl|cat": acl_cat,
    "acl|deluser": acl_deluser,
    "acl|dryrun": acl_dryrun,
    "acl|genpass": acl_genpass,
    "acl|getuser": acl_getuser,
    "acl|list": acl_list,
    "acl|log": acl_log,
    "acl|setuser": acl_setuser,
    "acl|users": acl_users,
    "acl|whoami": acl_whoami,
    "acl|load": acl_file,
    "acl|save": acl_file,
}

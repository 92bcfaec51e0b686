"""What Memcached's `protocol.txt` has: commands, words, flags, modes, names of statistics.

`python -m tests.embedded.memcached.protocol_text` writes the installed one's into `protocol.json`.
"""

import gzip
import json
import re
from pathlib import Path
from typing import Any

INSTALLED = Path("/usr/share/doc/memcached/protocol.txt.gz")
TABLE = Path(__file__).with_name("protocol.json")

_STATS = {
    "General-purpose statistics": "stats",
    "Settings statistics": "stats settings",
    "Item statistics": "stats items",
    "Slab statistics": "stats slabs",
    "Connection statistics": "stats conns",
    "TLS statistics": "stats with TLS",
}
_PATTERNS = (
    r"^([a-z_]+)(?: .*)?\\r\\n$",  # a request by itself
    r"^([a-z_]+) <",
    r'"([a-z_]+)" is a command',
    r'^  "([a-z]+)" (?:means|is)',
    r"^((?:lru_crawler|slabs) [a-z]+) <",
    r"^(lru|lru_crawler|slabs|watch) <([a-z_|]+)>",  # one of several words
)


def extract(text: str) -> dict[str, Any]:
    """Return what a `protocol.txt` has.

    Returns:
        `commands`, with their words; `noreply`, the commands that may have it; by meta command,
        `flags` and `modes`; by request, the names of `stats`.
    """
    commands = {f"stats {word}" for word in re.findall(r'argument\s+of\s+"(\w+)"', text)}
    for pattern in _PATTERNS:
        for found in re.findall(pattern, text, re.MULTILINE):
            name, words = found if isinstance(found, tuple) else (found, "")
            commands |= {f"{name} {word}".strip() for word in words.split("|")}
    return {
        "commands": sorted(commands - {"username"}),  # a line of an example
        "noreply": sorted(set(re.findall(r"^([a-z]+) .*\[noreply\]", text, re.MULTILINE))),
        **_meta(text),
        "stats": dict(_stats(text)),
    }


def _meta(text: str) -> dict[str, Any]:
    flags, modes = {}, {}
    for section in re.split(r"\nMeta \w+\n-+\n", text)[1:]:
        head = re.search(r"The flags used by the '(m\w)' command are:\n", section)
        if head is None:
            continue
        listed = section[head.end() :].partition("The flags are now repeated")[0]
        # The last of mg's are flags of replies.
        listed = listed.partition("can be added to the response")[0]
        flags[head[1]] = "".join(re.findall(r"^- (\w)(?:\(token\))?:", listed, re.MULTILINE))
        if found := re.findall(r"^([A-Z+-]): ", section, re.MULTILINE):
            modes[head[1]] = "".join(found)
    return {"flags": flags, "modes": modes}


def _stats(text: str) -> list[tuple[str, list[str]]]:
    parts = re.split(r"^([A-Z][\w -]+ statistics)\n-+\n", text, flags=re.MULTILINE)
    found = []
    for title, section in zip(parts[1::2], parts[2::2], strict=True):
        if title not in _STATS:
            continue
        if title == "Item statistics":
            names = re.findall(r"^([a-z_]+)(?:  +[A-Z].*)?$", section, re.MULTILINE)
        else:
            table = section.partition("The value of the")[0]
            names = re.findall(r"^\|? ?\| ([a-z_0-9]+) *(?:\||$)", table, re.MULTILINE)
        found.append((_STATS[title], names))
    return found


if __name__ == "__main__":
    with gzip.open(INSTALLED, "rt", encoding="utf-8") as file:
        TABLE.write_text(json.dumps(extract(file.read()), indent=1) + "\n", encoding="utf-8")

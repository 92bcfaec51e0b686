"""The settings, and where they come from: argument > environment > file > default."""

import contextlib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
)

from cachesim.errors import SettingsError
from cachesim.topology import ENDPOINTS, production

__all__ = ["LoadedSettings", "Settings", "load_settings", "variable"]

CHANGEABLE = (
    "speed",
    "seed",
    "detection_seconds",
    "promotion_seconds",
    "replacement_seconds",
    "dns_ttl_seconds",
)
"""The settings that can be changed while a topology runs: only its control plane uses them."""
_PREFIX = "CACHESIM_"

# Not misspelt settings: `cachesim env` prints some, for the environment of the next call.
_OTHER_VARIABLES = re.compile(_PREFIX + r"(TOXIPROXY_[A-Z]|CI_.*)")
_NO_CHOICE = (_PREFIX + "BACKEND", "compose")  # `cachesim env` prints it; nobody can choose it


def _matching(pattern: str, rule: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def _pair(value: object) -> object:
    """Turn "10-20", "10,20", "10" or 10 into a pair. pydantic parses the numbers in it."""
    parts: object = re.split("[-,]", value) if isinstance(value, str) else value
    if isinstance(parts, int | float):
        parts = [parts]
    if not isinstance(parts, list | tuple) or len(parts) not in (1, 2):
        raise ValueError('should be seconds, or a range: "10-20" as text, [10, 20] in TOML')
    return (parts[0], parts[-1])


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("should have its low end first")
    return span


PORTS_PER_ZONE = 10
_TOPOLOGY = production()
_LAST_FIRST_PORT = 65536 - PORTS_PER_ZONE * len(_TOPOLOGY.zones)
_PORT_NAMES = (
    *(node.name for node in _TOPOLOGY.nodes),
    *(f"toxiproxy-{zone.name}" for zone in _TOPOLOGY.zones),
    *(link.target for link in _TOPOLOGY.links if link.target_zone == ENDPOINTS),
)


def _ports(value: object) -> str:
    """Turn a first port, or ports by name (a table, or text as below), into text."""
    if isinstance(value, Mapping):
        value = ",".join(f"{name}={port}" for name, port in value.items())
    text = str(value).replace(" ", "")
    if text.isdecimal() and 1024 <= int(text) <= _LAST_FIRST_PORT:
        return str(int(text))
    pairs = [pair.partition("=") for pair in text.split(",")]
    ports = {n: int(p) for n, _, p in pairs if n in _PORT_NAMES and p.isdecimal()}
    if len(ports) < len(pairs) or not all(0 < port < 65536 for port in ports.values()):
        raise ValueError(
            f"should be the first of thirty ports, from 1024 to {_LAST_FIRST_PORT}, or ports by "
            f'name: "redis-a=7000,toxiproxy-a=8474". The names are {", ".join(_PORT_NAMES)}'
        )
    if len(set(ports.values())) < len(ports):
        raise ValueError("should have no port twice")
    return ",".join(f"{name}={port}" for name, port in sorted(ports.items()))


_DAY = 86_400.0
"""Seconds, the longest duration of any setting."""
_Seconds = Annotated[float, Field(ge=0, le=_DAY)]
_Span = Annotated[tuple[_Seconds, _Seconds], BeforeValidator(_pair), AfterValidator(_ordered)]
# The name is part of container and folder names: no "..", "-x" or "x." (Windows drops the dot).
_Name = Annotated[
    str,
    _matching(
        r"(?=.{1,40}$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?",
        "should be at most 40 letters, digits, dots, dashes and underscores, "
        "with a letter or digit first and no dot last",
    ),
]
_Host = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9.-]{,252}|(?=.*:.*:)[0-9A-Fa-f:.]+",
        "should be a host name or an IP address, without a port",
    ),
]
_Image = Annotated[str, _matching(r"\S+", "should be an image reference without spaces")]


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """All settings. `load_settings` collects their values and makes them.

    Durations are in seconds. A duration is drawn from its range and divided by `speed`. The default
    ranges are production's.
    """

    backend: Literal["auto", "docker", "embedded"] = Field(
        default="auto",
        description="Where the nodes run: in containers (`docker`) or emulated in Python "
        "(`embedded`). `auto` is `docker` if a Docker engine answers and has the images or may "
        "pull them, else `embedded`.",
    )
    engine: Literal["redis", "valkey"] = Field(
        default="redis", description="The server of the Redis nodes: `redis` or `valkey`."
    )
    redis_version: Literal["7.0", "7.2", "7.4", "8.0"] = Field(
        default="7.0",
        description="The version of the emulated Redis nodes, with engine `redis`; in containers "
        "`redis_image` has it.",
    )
    name: _Name | None = Field(
        default=None,
        description="The topology's name, part of its containers' names. By default it is random.",
    )
    speed: float = Field(
        default=1.0,
        ge=0.01,
        le=1000,
        description="How many times faster than in production the control plane acts.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        description="The seed of all random draws. By default it is random, and shown.",
    )
    memory_scale: float = Field(
        default=0.01,
        ge=0.001,  # 10 MB: with much less a Redis node has no room for itself
        le=1,
        description="The memory of each node, as a share of production's (Redis 10 GB, Memcached "
        "12 GB).",
    )
    detection_seconds: _Span = Field(
        default=(10.0, 20.0),
        description="Seconds, at speed 1, until a dead primary is detected: a range or one number.",
    )
    promotion_seconds: _Span = Field(
        default=(5.0, 10.0),
        description="Seconds, at speed 1, from the detection until a replica is promoted.",
    )
    replacement_seconds: _Span = Field(
        default=(30.0, 60.0),
        description="Seconds, at speed 1, until a dead node gets a new process, counted from its "
        "detection, or for a primary from the promotion of another.",
    )
    dns_ttl_seconds: _Span = Field(
        default=(5.0, 60.0),
        description="Seconds, at speed 1, for which new connections to a configuration endpoint "
        "may still go to a node that has died meanwhile, as clients keep what DNS has answered.",
    )
    node_timeout_seconds: float = Field(
        default=15.0, ge=1, le=_DAY, description="Redis's `cluster-node-timeout`, in seconds."
    )
    advertise_host: _Host | None = Field(
        default=None,
        description="Host name or IP that nodes announce to clients instead of 127.0.0.1, also in "
        "the certificates. It must lead to this machine's 127.0.0.1, where ports are published. "
        "The variables have it too, if it leads to 127.0.0.1 from here.",
    )
    ports: Annotated[str, BeforeValidator(_ports)] | None = Field(
        default=None,
        description="Fixed ports on 127.0.0.1, the same in each run: the first of thirty, such as "
        "17000 (redis-a has 17000, memcached-a 17001, Toxiproxy's API of zone a 17002, redis-b "
        "17010, ...), or ports by name: `redis-a=7000,toxiproxy-a=8474` as text, a table in TOML. "
        "By default all ports are free ones. pytest takes it from its marker alone.",
    )
    discovery: Literal["endpoint", "nodes"] = Field(
        default="endpoint",
        description="Whether in containers Memcached's configuration `endpoint` alone answers "
        "`config get cluster`, or all `nodes` do, over forwarders. Emulated ones always do.",
    )
    metrics: Literal["asked", "always"] = Field(
        default="asked",
        description="When metrics and alarms begin: when they are first `asked` for, or with the "
        "topology (`always`).",
    )
    alarms: Path | None = Field(
        default=None,
        description="A file with alarms, in the architecture's form or CloudFormation's. By "
        "default they are the architecture's. With a file, metrics begin with the topology.",
    )
    events_to: str | None = Field(
        default=None,
        description="Where ElastiCache's events go, beside the log, such as `Slack`: to the inbox "
        "of alarms. By default nowhere.",
    )
    webhook_file: Path | None = Field(
        default=None, description="A file with a URL: messages of the inbox are posted there too."
    )
    start_timeout_seconds: float = Field(
        default=60.0, gt=0, le=_DAY, description="Seconds after which a start fails."
    )
    pull_images: Literal["missing", "never"] = Field(
        default="missing",
        description="Which images are pulled: those that are `missing`, or none (`never`).",
    )
    redis_image: _Image = Field(
        default="redis:7.2", description="The image of Redis nodes with engine `redis`."
    )
    valkey_image: _Image = Field(
        default="valkey/valkey:8.1", description="The image of Redis nodes with engine `valkey`."
    )
    memcached_image: _Image = Field(
        default="memcached:1.6", description="The image of the Memcached nodes."
    )
    toxiproxy_image: _Image = Field(
        default="ghcr.io/shopify/toxiproxy:2.12.0",
        description="The image of each zone's Toxiproxy.",
    )

    @property
    def server_image(self) -> str:
        """The container image of the chosen `engine`."""
        return self.redis_image if self.engine == "redis" else self.valkey_image

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: object) -> object:
        parts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(part, bool) for part in parts):  # pydantic would read true as 1
            raise ValueError("should not be true or false")
        return value


_PATHS = {"alarms", "webhook_file"}
"""The settings that are paths: in a file they are relative to its folder."""


@dataclass(frozen=True)
class LoadedSettings:
    """The settings, and where each value came from.

    `sources` has every key. A source reads "argument", "environment CACHESIM_SPEED",
    "/path/cachesim.toml" or "default".
    """

    settings: Settings
    sources: Mapping[str, str]


class _Given(NamedTuple):
    value: object
    source: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


def variable(key: str) -> str:
    """Return the name of the environment variable that a setting is read from."""
    return _PREFIX + key.upper()


def load_settings(
    arguments: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> LoadedSettings:
    """Collect the settings: argument > environment > file > default.

    The file is in the first folder, from `directory` upwards, that has a `cachesim.toml` or a
    `pyproject.toml` with a `[tool.cachesim]` table.

    Args:
        arguments: values by key; None means not given, while 0 and "" are given.
        environ: has CACHESIM_<KEY> variables; `os.environ` if None. A blank variable counts as not
            set, as on Windows.
        directory: the folder where the search for the file begins; the current one if None.

    Raises:
        SettingsError: a key is unknown, a value is wrong or a file cannot be read. The message has
            all mistakes, one a line, each with its key and where it came from.
    """
    variables = {variable(key): key for key in Settings.model_fields}
    environ = os.environ if environ is None else environ
    with contextlib.suppress(FileNotFoundError):  # the current folder may have been removed
        directory = directory or Path.cwd()
    given = _from_file(directory) if directory else {}
    for name, key in variables.items():
        text = environ.get(name, "").strip()
        if text and (name, text) != _NO_CHOICE:
            given[key] = _Given(text, f"environment {name}")
    for key, value in (arguments or {}).items():
        if value is not None:
            given[key] = _Given(value, "argument")

    mistakes = [
        f"{key} ({origin}): unknown key; {_hint(key)}"
        for key, origin in given.items()
        if key not in Settings.model_fields
    ]
    mistakes += misspelt(environ, variables)
    known = {key: given[key].value for key in Settings.model_fields if key in given}
    try:
        settings = Settings.model_validate(known)
    except ValidationError as error:
        for detail in error.errors():
            key = str(detail["loc"][0])
            rule = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
            mistakes.append(f"{key} = {given[key].value!r} ({given[key]}): {rule}")
    if mistakes:
        raise SettingsError(
            "\n".join(dict.fromkeys(mistakes))
        )  # both ends of a range give the same message
    sources = {k: given[k].source if k in given else "default" for k in Settings.model_fields}
    return LoadedSettings(settings, sources)


def _hint(key: str) -> str:
    if near := get_close_matches(key, Settings.model_fields, 1):
        return f"did you mean {near[0]}?"
    return f"the keys are {', '.join(Settings.model_fields)}"


def misspelt(environ: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return a line for each variable whose name is nearly that of a known one."""
    mistakes = []
    endings = [name.removeprefix(_PREFIX) for name in known]
    for name in sorted(environ.keys() - known):
        if not name.startswith(_PREFIX) or _OTHER_VARIABLES.fullmatch(name):
            continue
        # Compared without the prefix: with it, all short names look alike (CACHESIM_HOME and
        # .._NAME). Names that look like no setting may be another program's. 0.75 allows two
        # swapped letters in a word of four.
        if near := get_close_matches(name.removeprefix(_PREFIX), endings, 1, 0.75):
            mistakes.append(f"environment {name}: unknown; did you mean {_PREFIX}{near[0]}?")
    return mistakes


def _from_file(directory: Path) -> dict[str, _Given]:
    start = directory.resolve()
    for folder in (start, *start.parents):
        own, shared = folder / "cachesim.toml", folder / "pyproject.toml"
        from_own, from_shared = _from_toml(own), _from_toml(shared, "tool", "cachesim")
        if from_own is not None and from_shared is not None:
            raise SettingsError(
                f"{own} and [tool.cachesim] in {shared} both hold settings: move all to one of them"
            )
        found = from_shared if from_own is None else from_own
        if found is not None:
            return found
    return {}


def _from_toml(path: Path, *names: str) -> dict[str, _Given] | None:
    """Read one table of a file. Return None if there is no such file or table."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors may put a byte order mark
        table: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        unquoted = str(error).startswith("Invalid value")
        hint = '; strings need quotes: engine = "valkey"' if unquoted else "."
        raise SettingsError(f"{path}: invalid TOML: {error}. Fix it{hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}. Make it readable UTF-8 text.") from error
    for name in names:
        if not isinstance(table, dict) or name not in table:
            return None
        table = table[name]
    header = f"[{'.'.join(names)}]"
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: should be a table, {header}, with one key a line")
    lines = _key_lines(text, header if names else None)
    for key in _PATHS & table.keys():
        if isinstance(table[key], str):  # else it is a mistake, told later
            table[key] = str(path.parent / table[key])
    return {key: _Given(value, str(path), lines.get(key)) for key, value in table.items()}


def _key_lines(text: str, header: str | None) -> dict[str, int]:
    """Return the line number of each key below `header`, which tomllib does not give."""
    lines: dict[str, int] = {}
    inside = header is None
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("["):
            inside = re.sub(r"#.*|[\s\"']", "", line) == header
        elif inside and (match := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line)):
            lines[match[1]] = number
    return lines

"""Who may import whom, kept by reading every module's imports."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Layer:
    """Modules that have the same right to import.

    Attributes:
        modules: without `cachesim.`; a package stands for itself, not for what is in it.
        may_import: layers, and single modules of other layers.
        reason: why no more than that.
    """

    name: str
    modules: frozenset[str]
    may_import: frozenset[str]
    reason: str


def layer(name: str, modules: str, may_import: str, reason: str) -> Layer:
    """A layer, with names separated by blanks."""
    return Layer(name, frozenset(modules.split()), frozenset({name, *may_import.split()}), reason)


LAYERS = (
    layer(
        "facts",
        "errors clock topology toxics elasticache credentials owner events config tls",
        "",
        "what everything rests on: it can be read, tested and reused without anything that runs",
    ),
    layer(
        "servers",
        "clients cluster files wire",
        "facts",
        "how to talk to servers, whatever carries them: any backend can use it",
    ),
    layer(
        "proxy",
        "proxy proxy.client proxy.chain proxy.connection proxy.listener proxy.server proxy.gojson"
        " proxy.api proxy.api_server proxy.local embedded embedded.pipe embedded.timers"
        " embedded.loop",
        "facts",
        "Toxiproxy's API knows nothing of backends: it is the same in front of all of them",
    ),
    layer(
        "protocols",
        "protocols protocols.memcached protocols.resp",
        "",
        "bytes in, requests out: nothing of what they are for",
    ),
    layer(
        "embedded-nodes",
        "embedded.tls embedded.gate embedded.node embedded.turns "
        "embedded.memcached embedded.memcached.commands embedded.memcached.config "
        "embedded.memcached.items embedded.memcached.meta embedded.memcached.node "
        "embedded.memcached.replies embedded.memcached.server embedded.memcached.session "
        "embedded.memcached.slabs embedded.memcached.stats embedded.memcached.storing "
        "embedded.redis embedded.redis.acl embedded.redis.aof embedded.redis.blocking "
        "embedded.redis.bus embedded.redis.client embedded.redis.cluster "
        "embedded.redis.commands embedded.redis.commands.admin "
        "embedded.redis.commands.channels embedded.redis.commands.clients "
        "embedded.redis.commands.cluster embedded.redis.commands.collections "
        "embedded.redis.commands.connection embedded.redis.commands.expiry "
        "embedded.redis.commands.hashes embedded.redis.commands.keys "
        "embedded.redis.commands.scanning embedded.redis.commands.scripts "
        "embedded.redis.commands.strings embedded.redis.commands.transactions "
        "embedded.redis.commands.waiting embedded.redis.commands.watchers "
        "embedded.redis.config embedded.redis.dump embedded.redis.executor "
        "embedded.redis.following embedded.redis.functions embedded.redis.globs "
        "embedded.redis.interpreter "
        "embedded.redis.info embedded.redis.keyspace embedded.redis.log embedded.redis.memory "
        "embedded.redis.node embedded.redis.pubsub embedded.redis.replicas "
        "embedded.redis.scripting embedded.redis.server embedded.redis.session "
        "embedded.redis.settings embedded.redis.snapshot embedded.redis.stats "
        "embedded.redis.stream embedded.redis.table embedded.redis.tracking "
        "embedded.redis.values embedded.redis.versions embedded.redis.view "
        "embedded.redis.worker",
        "facts protocols",
        "they know their peers by name, and nothing of links, proxies and backends",
    ),
    layer(
        "backends",
        "backends backends.base backends.redis_server backends.plan backends.containers"
        " backends.docker backends.compose backends.remote backends.choice",
        "facts servers proxy",
        "a backend carries servers and proxies; what they are used for is not its business",
    ),
    layer(
        "embedded-backend",
        "backends.embedded",
        "facts servers proxy embedded-nodes backends",
        "the one backend that has the emulated nodes",
    ),
    layer(
        "operations",
        "links nodes faults metronome evidence monitor control_plane shard handles",
        "facts servers proxy backends.base",
        "faults and failovers are the same on every backend, so they see its interface alone",
    ),
    layer(
        "root",
        "simulator compose",
        "facts servers proxy backends embedded-backend operations",
        "the one place that puts the parts together, and picks the backend",
    ),
    layer(
        "public",
        "cachesim",
        "facts operations root",
        "the public names; they come from where they are defined, not by way of each other",
    ),
    layer(
        "doctor",
        "doctor",
        "facts servers backends",
        "it looks at what each backend needs, without starting one",
    ),
    layer(
        "leaves",
        "__main__ cli console daemon foreground interrupts lifetime screen service shell variables",
        "facts servers operations root public doctor backends.base",
        "what people start; nothing that a library user imports may need it",
    ),
)
LAYER_OF = {module: row for row in LAYERS for module in row.modules}

HEAVY = {
    "docker": "slow to import, and needed by one backend only",
    "testcontainers": "slow to import, and needed by one backend only",
    "redis": "slow to import, and the users' tests may not need a client",
    "pymemcache": "the users' tests may not need a client",
    "toxiproxy": "a way in for users, that cachesim itself does not use",
    "fakeredis": "slow to import, and not needed with containers",
    "lupa": "needed for scripts only",
    "trustme": "brings all of cryptography, and is needed once in a run",
}
"""What no module may import when it is itself imported: the plugin is loaded in every pytest run of
its users, and costs them nothing that they can feel while it is off."""


def imports_in(source: str, package: str = "", *, eager: bool = False) -> Iterator[str]:
    """The names that a module imports, in full: of `from a import b` both `a` and `a.b`.

    Args:
        package: what relative imports are relative to.
        eager: only what is imported as soon as the module is, and not for type checkers alone.
    """
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if eager and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if eager and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: -node.level + 1 or None]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        todo += ast.iter_child_nodes(node)


@cache
def sources(folder: str) -> dict[str, str]:
    """The text of all modules under a folder, by their full names."""
    texts = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to((ROOT / folder).parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        texts[name] = path.read_text(encoding="utf-8")
    return texts


def short(module: str) -> str:
    """A module's name in the table."""
    return module.removeprefix("cachesim.")


def package_of(module: str) -> str:
    """What relative imports in a module are relative to."""
    return module if module in ("cachesim", "pytest_cachesim") else module.rpartition(".")[0]


def imported(module: str) -> set[str]:
    """The modules of cachesim that a module imports, as the table has them."""
    modules = sources("cachesim")
    names = set(imports_in(modules[module], package_of(module)))
    found = {short(name) for name in names & modules.keys()}
    # `from cachesim import topology` asks for a module, not for the public names.
    direct = {name for name in names if name.startswith("cachesim.") and name.count(".") == 1}
    return found if direct - modules.keys() else found - {"cachesim"}


@pytest.mark.parametrize("module", sources("cachesim"))
def test_has_a_layer(module: str) -> None:
    """Every module has a place in the table of layers."""
    assert short(module) in LAYER_OF, f"add {module} to LAYERS in {__file__}"


@pytest.mark.parametrize("module", sources("cachesim"))
def test_imports_of_its_layer_only(module: str) -> None:
    """A module imports what its layer may import, and nothing above."""
    row = LAYER_OF[short(module)]
    wrong = {
        other
        for other in imported(module)
        if LAYER_OF[other].name not in row.may_import and other not in row.may_import
    }
    assert not wrong, f"{module} must not import {', '.join(sorted(wrong))}: {row.reason}"


def test_no_layer_imports_one_above_it() -> None:
    """The table itself lets no layer import one that comes after it."""
    order = [row.name for row in LAYERS]
    for row in LAYERS:
        allowed = {name if name in order else LAYER_OF[name].name for name in row.may_import}
        assert all(order.index(name) <= order.index(row.name) for name in allowed)


def test_proxy_knows_no_backend() -> None:
    """Backends populate their proxies; nothing goes the other way."""
    table = {row.name: row for row in LAYERS}
    assert not table["proxy"].may_import & {"backends", *table["backends"].modules}


def test_simulator_alone_picks_a_backend() -> None:
    """Only the simulator starts a backend, and the doctor looks at what it needs."""
    users = {m for m in sources("cachesim") if "backends.docker" in imported(m)}
    assert users == {"cachesim.simulator", "cachesim.doctor"}


def test_nothing_imports_the_command_line() -> None:
    """Only what `python -m cachesim` runs imports the command line."""
    users = {m for m in sources("cachesim") if "cli" in imported(m)}
    assert users <= {"cachesim.__main__"}
    for text in sources("pytest_plugin/pytest_cachesim").values():
        assert "cachesim.cli" not in set(imports_in(text, "pytest_cachesim"))


IMPORTED_WHERE_USED = {
    "cachesim.embedded.redis.keyspace": "it extends fakeredis's classes; see the test below"
}


@pytest.mark.parametrize(
    ("folder", "module"),
    [
        (f, m)
        for f in ("cachesim", "pytest_plugin/pytest_cachesim")
        for m in sources(f)
        if m not in IMPORTED_WHERE_USED
    ],
)
def test_heavy_imports_where_they_are_used(folder: str, module: str) -> None:
    """No module imports a heavy library when it is itself imported."""
    names = set(imports_in(sources(folder)[module], package_of(module), eager=True))
    heavy = {name.partition(".")[0] for name in names} & HEAVY.keys()
    why = "; ".join(f"{name}: {HEAVY[name]}" for name in sorted(heavy))
    assert not heavy, f"{module} imports when it is imported: {why}"


@pytest.mark.parametrize("heavy", IMPORTED_WHERE_USED)
def test_heavy_modules_are_imported_where_they_are_used(heavy: str) -> None:
    """What may import a heavy library at once is itself imported within functions alone."""
    for module, text in sources("cachesim").items():
        assert heavy not in set(imports_in(text, package_of(module), eager=True)), module


SAMPLE = """
import docker
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import redis
else:
    import trustme
try:
    from pymemcache.client import base
except ImportError:
    pass
class Client:
    import toxiproxy
    def connect(self):
        from testcontainers import core
from . import events
from .backends import docker as engine
"""


def test_reads_imports() -> None:
    """Imports are found wherever they are, also those relative to the package."""
    assert set(imports_in(SAMPLE, "cachesim")) == {
        "docker", "typing", "typing.TYPE_CHECKING", "redis", "trustme", "pymemcache.client",
        "pymemcache.client.base", "toxiproxy", "testcontainers", "testcontainers.core",
        "cachesim", "cachesim.events", "cachesim.backends", "cachesim.backends.docker",
    }  # fmt: skip


def test_reads_eager_imports() -> None:
    """Eager are those outside functions and type checking."""
    eager = {name.partition(".")[0] for name in imports_in(SAMPLE, "cachesim", eager=True)}
    assert eager == {"docker", "typing", "trustme", "pymemcache", "toxiproxy", "cachesim"}

"""Who may import whom, kept by reading every module's imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


FOLDERS = (
    *(
        "cli",
        "dashboard",
        "scenarios",
        "simulator",
        "daemon",
        "monitoring",
        "control_plane",
        "faults",
        "backends",
    ),
    *("embedded", "aio", "workload", "runs", "servers", "history", "toxiproxy", "protocols"),
)
"""The folders from top to bottom: each may import what stands below it, and itself. Below all of
them are the modules of the root, which import each other alone."""

ROOT_MODULES = frozenset({"settings", "events", "topology", "elasticache", "clock", "errors"})
ABOVE_ALL = frozenset({"cachesim", "__main__"})
"""The public names and `python -m cachesim`, which nothing imports."""

FOR_CLIENTS = frozenset(
    {
        *("faults.catalogue", "control_plane.states", "control_plane.timing"),
        *("servers.clients", "servers.certificates", "toxiproxy.toxics"),
        *("history.rows", "history.outages", "history.outcomes", "history.percentiles"),
        *("monitoring.datapoints", "monitoring.messages"),
    }
)
"""What `simulator` may import from the folders below it, with what these import from their own
folders: values and clients. For all else it calls the daemon."""

BACKENDS_ELSEWHERE = {
    "cli.life": {"backends.compose.folder": "`cachesim compose` writes a folder, no daemon"},
    "cli.doctor": {"backends.containers.engine": "it tells why no engine answers"},
}
"""What modules outside the daemon import from the backends, besides their interface and the choice
between them, and why."""


def group(folder: str, modules: str) -> frozenset[str]:
    """Modules of a folder, given by their names in it."""
    return frozenset(f"{folder}.{module}" for module in modules.split())


NATURAL_CIRCLES = (
    group("embedded.memcached", "server session"),
    # Redis's own `client -> server`: a client knows its server, which runs the requests of all its
    # clients, changes its role, and has its commands called by scripts.
    group(
        "embedded.redis",
        """
        cluster.bus cluster.membership connections.client connections.client_list
        connections.clients
        connections.session dispatch.entry dispatch.events dispatch.executor dispatch.guards
        dispatch.script_flags replication.primary replication.replica scripting.calls
        scripting.functions scripting.runner scripting.running scripting.scripts server
        """,
    ),
)
"""Modules that import each other, imports for types included, as the thing itself is a circle."""

HEAVY = {
    "docker": "slow to import, and needed by one backend only",
    "testcontainers": "slow to import, and needed by one backend only",
    "redis": "slow to import, and the users' tests may not need a client",
    "pymemcache": "the users' tests may not need a client",
    "toxiproxy": "a way in for users, that cachesim itself does not use",
    "fakeredis": "slow to import, and not needed with containers",
    "lupa": "needed for scripts only",
    "prometheus_client": "needed for its endpoint only, and not everybody has it",
    "ruamel": "needed for scenario files only, and not everybody has it",
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


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of cachesim that a module imports, as the table has them."""
    modules = sources("cachesim")
    names = set(imports_in(modules[module], package_of(module)))
    found = {short(name) for name in names & modules.keys()}
    # `from cachesim import topology` asks for a module, not for the public names.
    direct = {name for name in names if name.startswith("cachesim.") and name.count(".") == 1}
    if not direct - modules.keys():
        found.discard("cachesim")
    # `from cachesim.faults import links` asks for a module, not for what the package has.
    return frozenset(
        m
        for m in found
        if not any(f"cachesim.{other}" in names and other.startswith(f"{m}.") for other in found)
    )


def folder_of(module: str) -> str:
    """The folder that a module is in, or "" for the root's."""
    first = short(module).partition(".")[0]
    return first if first in FOLDERS else ""


def rank(module: str) -> int:
    """How far down a module stands."""
    folder = folder_of(module)
    if short(module) in ABOVE_ALL:
        return -1
    return FOLDERS.index(folder) if folder else len(FOLDERS)


@pytest.mark.parametrize("module", sources("cachesim"))
def test_is_in_a_folder(module: str) -> None:
    """Every module is in one of the folders, or one of the few at the root."""
    assert folder_of(module) or short(module) in ROOT_MODULES | ABOVE_ALL, (
        f"put {module} into a folder, see FOLDERS in {__file__}"
    )


@pytest.mark.parametrize("module", sources("cachesim"))
def test_imports_downwards(module: str) -> None:
    """A module imports from its own folder and from those below."""
    wrong = {other for other in imported(module) if rank(other) < rank(module)}
    assert not wrong, f"{module} must not import {', '.join(sorted(wrong))}, which are above it"


@pytest.mark.parametrize("folder", ["aio", "protocols"])
def test_imports_the_root_alone(folder: str) -> None:
    """`aio` and `protocols` import nothing but themselves and the modules at the root."""
    modules = [module for module in sources("cachesim") if folder_of(module) == folder]
    assert modules
    assert {folder_of(other) for module in modules for other in imported(module)} <= {folder, ""}


def for_clients() -> set[str]:
    """`FOR_CLIENTS`, with what these modules import from their own folders."""
    found: set[str] = set()
    todo = set(FOR_CLIENTS)
    while todo:
        module = todo.pop()
        found.add(module)
        same = {m for m in imported(f"cachesim.{module}") if folder_of(m) == folder_of(module)}
        todo |= same - found
    return found


def test_simulator_knows_values_alone() -> None:
    """The users' side has values, calls and clients; what runs a topology is in the daemon."""
    modules = [module for module in sources("cachesim") if folder_of(module) == "simulator"]
    used = {
        other
        for module in modules
        for other in imported(module)
        if folder_of(other) not in ("simulator", "runs", "")
    }
    assert used - for_clients() == set()
    assert used >= FOR_CLIENTS, "one that nobody needs any more is taken out"


def circles() -> list[frozenset[str]]:
    """The groups of modules that import each other, imports for types included."""
    direct = {short(module): imported(module) - {short(module)} for module in sources("cachesim")}

    def reached(module: str) -> set[str]:
        found: set[str] = set()
        todo = [module]
        while todo:
            new = direct[todo.pop()] - found
            found |= new
            todo += new
        return found

    reach = {module: reached(module) for module in direct}
    groups = {
        frozenset(other for other in reach[module] if module in reach[other]) for module in direct
    }
    return [group for group in groups if group]


def test_no_circle_but_the_natural_ones() -> None:
    """Modules import each other only where the thing itself is a circle."""
    assert set(circles()) == set(NATURAL_CIRCLES)


def test_daemon_alone_knows_backends() -> None:
    """Outside the daemon nobody imports a backend, only their interface and the choice of one."""
    public = {"backends.base", "backends.selection"}
    outside = {
        short(module): used
        for module in sources("cachesim")
        if folder_of(module) not in ("daemon", "backends")
        and (used := {m for m in imported(module) if folder_of(m) == "backends"} - public)
    }
    assert outside == {module: set(used) for module, used in BACKENDS_ELSEWHERE.items()}
    for text in sources("pytest_plugin/pytest_cachesim").values():
        names = set(imports_in(text, "pytest_cachesim"))
        named = {".".join(n.split(".")[1:3]) for n in names if n.startswith("cachesim.backends.")}
        assert named <= public


def test_provisioning_alone_picks_a_backend() -> None:
    """Only the daemon's provisioning starts a backend."""
    users = {m for m in sources("cachesim") if "backends.containers.docker" in imported(m)}
    assert users == {"cachesim.daemon.provisioning"}


LIGHT = """
import sys
import cachesim.simulator.simulator
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_simulator_is_light() -> None:
    """The users' process imports nothing heavy before it needs it: the daemon has all that."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    heavy = {*HEAVY, "pydantic", "asyncio", "psutil", "ssl", "cryptography"}
    assert "cachesim" in done.stdout.split()
    assert heavy.isdisjoint(done.stdout.split())


def test_nothing_imports_the_command_line() -> None:
    """Only what `python -m cachesim` runs imports the command line."""
    users = {m for m in sources("cachesim") if "cli.app" in imported(m)}
    assert users <= {"cachesim.__main__"}
    for text in sources("pytest_plugin/pytest_cachesim").values():
        assert "cachesim.cli.app" not in set(imports_in(text, "pytest_cachesim"))


IMPORTED_WHERE_USED = {
    "cachesim.embedded.redis.keyspace.keyspace": "it extends fakeredis's classes; see below"
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

"""The README and the documentation are true: what they show is done, as a reader would do it.

Each page has a folder of its own, and is followed from top to bottom in one shell. A block whose
first line is a comment with a file's name becomes that file; of the others, Python is run (with
pytest, if it has tests), and so is each command of a shell. Where output is shown, these lines have
to be in it, in this order; else the command has to succeed. `...` stands for anything, and so do
times of the day and the drawn names of topologies.
"""

import ast
import inspect
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest

from cachesim import Fault, Settings, Simulator
from cachesim.cli.app import main
from cachesim.events import EventKind
from cachesim.faults.catalogue import CATALOGUE
from cachesim.runs.env import SERVICE
from cachesim.simulator.faults import Faults
from cachesim.simulator.faults_of_servers import FaultT
from cachesim.topology import ENDPOINTS, production
from tests.embedded.memcached import differential as memcached
from tests.embedded.redis import differential as redis
from tests.embedded.toxiproxy import bodies as toxiproxy

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [
    README,
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
    *sorted((ROOT / "examples").rglob("README.md")),
]

OF_CONTAINERS = {
    "README.md",
    *(f"docs/how-to/{page}.md" for page in ("ci", "compose", "containers", "other-servers")),
}
"""The pages that are followed with containers. The others are embedded, which is quicker."""

NOT_RUN = {
    r"pip install |\.venv/bin/": "the tests run with what is installed",
    r"python3 -m venv .*": "CI runs the second of these; the first does not end",
    r"cachesim up(?! -d\b)": "it does not end",
    r"cachesim dashboard": "it does not end",
    r"for version in ": "it takes minutes, and each version from PyPI",
    r"git clone ": "this is the clone",
    r"docker (ps|rm|network|volume) ": "other topologies are not the tests' to touch",
}
"""Commands that are only looked at: how they begin, and why."""

ANYTHING = re.compile(r"\n|\.\.\.|\b\d\d:\d\d:\d\d\.\d{3}\b|\bpytest-[0-9a-f]{6}\b")
"""What stands between the parts of an output that have to be there."""

SHELLS, FILES = {"console", "sh"}, {"python", "toml", "ini"}
NOT_CODE = {"text", "yaml"}


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: where it begins.
    """

    page: Path
    line: int
    language: str
    code: str

    @property
    def file(self) -> str | None:
        """The file that it is."""
        match = re.match(r"# (\S+\.(?:py|toml|ini|yaml))\n", self.code)
        return match[1] if match and self.language in (*FILES, "yaml") else None

    @property
    def has_tests(self) -> bool:
        """Whether it is for pytest."""
        return self.language == "python" and "\ndef test_" in f"\n{self.code}"

    @property
    def commands(self) -> Iterator[tuple[int, str, str]]:
        """The commands of a shell: the line of each, itself, and the output that is shown."""
        lines = self.code.splitlines()
        if self.language == "sh":
            lines = [f"$ {line}" for line in lines]
        found: list[tuple[int, list[str], list[str]]] = []
        for number, line in enumerate(lines, self.line):
            if line.startswith("$ "):
                found.append((number, [line[2:]], []))
            elif found[-1][1][-1].endswith("\\"):
                found[-1][1].append(line)
            else:
                found[-1][2].append(line)
        for number, command, output in found:
            yield number, "\n".join(command), "\n".join(output)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, but for MyST's directives."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```([^\n]*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [
        Block(
            page,
            text.count("\n", 0, match.start(3)) + 1,
            match[2],
            re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE),
        )
        for match in found
        if not match[2].startswith("{")
    ]


def name(page: Path) -> str:
    """A page's name in the names of tests."""
    return page.relative_to(ROOT).as_posix()


def commands_of(page: Path) -> Iterator[tuple[int, str]]:
    """Every command on a page, each with its line."""
    for block in blocks(page):
        if block.language in SHELLS:
            yield from ((line, command) for line, command, _ in block.commands)


def why_not(command: str) -> str | None:
    """Why a command is not run."""
    for pattern, reason in NOT_RUN.items():
        if re.match(pattern, command):
            return reason
    return None


# --- following the pages ----------------------------------------------------------------------


class Follower:
    """One page, as a script for a shell.

    Args:
        folder: where its reader works.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = page
        self._kept = folder / "blocks"
        self._work = folder / "work"
        self._expected: dict[Path, str] = {}
        self._script: list[str] = []
        self._kept.mkdir()
        self._work.mkdir()
        found = blocks(page)
        tests = {block.file for block in found if block.has_tests and block.file}
        for block in found:
            self._add(block)
        if tests and not any(re.match("pytest ", command) for _, command in commands_of(page)):
            self._run(0, f"pytest --cachesim {' '.join(sorted(tests))}")

    def _add(self, block: Block) -> None:
        if block.language in SHELLS:
            for line, command, output in block.commands:
                if why_not(command) is None:
                    self._run(line, command, output)
        elif block.language in FILES or block.file:
            kept = self._kept / f"{block.line}.{block.language}"
            kept.write_text(block.code, encoding="utf-8")
            if block.file:
                self._run(block.line, f"cp {shlex.quote(str(kept))} {block.file}")
            elif block.has_tests:
                test = f"test_line_{block.line}.py"
                self._run(block.line, f"cp {shlex.quote(str(kept))} {test}")
                self._run(block.line, f"pytest --cachesim {test}")
            else:
                self._run(block.line, f"python {shlex.quote(str(kept))}")

    def _run(self, line: int, command: str, output: str = "") -> None:
        said = self._kept / f"said-{len(self._script)}"
        if output:
            self._expected[said] = output
        # In braces, so that a command changes this shell. A failure may be what is shown.
        self._script.append(
            f"{{ {command}\n}} >{said} 2>{said}.err || {'true' if output else 'false'} || "
            f"{{ echo {name(self._page)}:{line}: failed; cat {said} {said}.err; exit 1; }}"
        )

    def follow(self, env: dict[str, str]) -> None:
        """Do what the page says."""
        shell = ["bash", "-c", "\n".join(["set -uo pipefail", *self._script])]
        done = subprocess.run(
            shell, cwd=self._work, env=env, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for said, expected in self._expected.items():
            output = said.read_text(encoding="utf-8")
            errors = said.with_suffix(".err").read_text(encoding="utf-8")
            end = 0
            for part in ANYTHING.split(expected):
                begin = output.find(part, end)
                assert begin >= 0, f"no {part!r} in order in:\n{output}{errors}"
                end = begin + len(part)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the sockets in it have to have short names too."""
    path = Path(tempfile.mkdtemp(prefix="docs-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def env(folder: Path) -> Iterator[dict[str, str]]:
    """What a reader's shell has: a home of its own, and the commands `cachesim` and `pytest`."""
    programs, home = folder / "bin", folder / "home"
    programs.mkdir()
    home.mkdir()
    modules = {
        "cachesim": "cachesim",
        # hypothesis takes longer to import than the rest, and no page has a use for it.
        "pytest": "pytest -p no:cachesim -p pytest_cachesim -p no:cacheprovider "
        "-p no:hypothesispytest",
        "python": "",
    }
    for program, module in modules.items():
        arguments = f"-m {module}" if module else ""
        (programs / program).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / program).chmod(0o755)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "XDG_"))}
    paths = [str(ROOT), str(ROOT / "pytest_plugin"), *filter(None, [variables.get("PYTHONPATH")])]
    variables |= {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": f"{programs}{os.pathsep}{variables['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "200",  # so that pytest's lines are whole
    }
    yield variables
    # What a page that failed has left running. Where there is nothing, this is an error.
    down = [str(programs / "cachesim"), "down"]
    subprocess.run(down, env=variables, check=False, capture_output=True)
    for file in folder.glob("work/*/docker-compose.yml"):
        down = ["docker", "compose", "-f", str(file), "down", "-v"]
        subprocess.run(down, env=variables, check=False, capture_output=True)


def modules_of(page: Path) -> Iterator[str]:
    """The modules that a page's code imports, but for its own."""
    own = {Path(block.file).stem for block in blocks(page) if block.file}
    for block in blocks(page):
        for node in ast.walk(ast.parse(block.code)) if block.language == "python" else ():
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            else:
                continue
            yield from {module.partition(".")[0] for module in imported} - own


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if {b.language for b in blocks(p)} & (SHELLS | FILES)],
    ids=name,
)
def test_page(
    page: Path, folder: Path, env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """What a page says works, in the order in which it says so."""
    if name(page) in OF_CONTAINERS:
        request.getfixturevalue("require_docker")
    else:
        env["CACHESIM_BACKEND"] = "embedded"
    needs_compose = any(command.startswith("docker compose ") for _, command in commands_of(page))
    if needs_compose and request.getfixturevalue("compose") != ["docker", "compose"]:
        pytest.skip(f"{name(page)} is for `docker compose`, not docker-compose")
    lacking = sorted({module for module in modules_of(page) if find_spec(module) is None})
    if lacking:
        pytest.skip(f"{name(page)} needs {', '.join(lacking)}: pip install -e '.[docs]'")
    Follower(page, folder).follow(env)


def test_there_is_code() -> None:
    """The test above has found what it is about."""
    found = [block for page in PAGES for block in blocks(page)]
    assert sum(block.has_tests for block in found) >= 5
    assert sum(block.language == "python" for block in blocks(README)) >= 2


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_languages(page: Path) -> None:
    """Every block has a language that is known here, so that none is passed over."""
    known = SHELLS | FILES | NOT_CODE
    unknown = [(block.line, block.language) for block in blocks(page)]
    assert [found for found in unknown if found[1] not in known] == []


# --- what is written by hand ------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands(page: Path) -> None:
    """Every command of ours that is shown exists, and so does every option."""
    for line, text in commands_of(page):
        for call in re.findall(r"(?<![\w-])cachesim ((?:[a-z-]+|--?[\w-]+)[^|;&)\"']*)", text):
            check_call(shlex.split(call), f"{name(page)}:{line}: cachesim {call}")


def check_call(words: list[str], where: str) -> None:
    """A call of `cachesim` names what is there."""
    command: click.Command = main
    while isinstance(command, click.Group):
        if command.invoke_without_command and (not words or words[0].startswith("-")):
            break
        assert words, where
        word = words.pop(0)
        assert word in command.commands, where
        command = command.commands[word]
    if command.context_settings.get("ignore_unknown_options"):
        return
    known = {flag for parameter in command.params for flag in parameter.opts}
    ours = itertools.takewhile(lambda word: word != "--", words)  # the rest is another program's
    flags = {word.partition("=")[0] for word in ours if word.startswith("-")}
    assert flags <= known | {"-h", "--help"}, where


def table(page: str, head: str) -> list[list[str]]:
    """The cells of the rows of the table whose head begins so, without backticks."""
    _, _, rest = (ROOT / page).read_text(encoding="utf-8").partition(f"\n{head}")
    assert rest, f"no table {head}"
    lines = re.split(r"\n(?!\|)", rest, maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_faults_table() -> None:
    """Every fault of the table, which is the catalogue's, is a method, and the other way round."""
    faults = {
        name
        for name, member in inspect.getmembers(Faults, callable)
        if not name.startswith("_") and get_type_hints(member).get("return") in (Fault, FaultT)
    }
    assert {fault.name.replace("-", "_") for fault in CATALOGUE} == faults


@pytest.mark.parametrize(
    ("head", "known"),
    [
        ("| Redis command |", redis.KNOWN),
        ("| Memcached command |", memcached.KNOWN),
        ("| Toxiproxy |", toxiproxy.KNOWN),
    ],
)
def test_differences_table(head: str, known: Sequence[tuple[str, str]]) -> None:
    """What the fuzzers know to differ is what the documentation says."""
    rows = table("docs/explanation/embedded.md", head)
    assert [tuple(row) for row in rows] == [(a.strip("`"), b.strip("`")) for a, b in known]


def test_events_table() -> None:
    """Every kind of event is explained, in the order of its definition."""
    rows = table("docs/explanation/failover.md", "| event |")
    assert tuple(row[0] for row in rows) == get_args(EventKind)


def test_failover_table() -> None:
    """The durations are the defaults', and those at speed 30 are a thirtieth of them."""
    settings = Settings()
    spans = [settings.detection_seconds, settings.promotion_seconds, settings.replacement_seconds]
    assert [row[1:] for row in table("docs/explanation/failover.md", "| phase |")] == [
        [f"{low:g}-{high:g} s", f"{low / 30:.2g}-{high / 30:.2g} s"] for low, high in spans
    ]


def test_number_of_links() -> None:
    """The address plan counts them right."""
    text = (DOCS / "explanation" / "address-plan.md").read_text(encoding="utf-8")
    nodes = [link for link in production().links if link.target_zone != ENDPOINTS]
    assert f"There are {len(nodes)}, and one to each" in text


@pytest.mark.usefixtures("on_backend")
def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable that a service gets has a meaning, in order."""
    monkeypatch.chdir(tmp_path)
    with Simulator() as sim:
        assert list(SERVICE) == list(sim.env())


def test_commands_for_a_fresh_clone() -> None:
    """Two commands of one line each, and CI runs the second as it is."""
    section = README.read_text(encoding="utf-8").split("## From a fresh clone")[1]
    commands = re.findall(r"```sh\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    assert [command.count("\n") for command in commands] == [1, 1]
    ci = ROOT / ".ci" / "run"
    if ci.is_file():  # the source distribution has none
        assert commands[1].strip() in ci.read_text()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is a file here. Sphinx looks at those to a part of a page."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).is_file(), target

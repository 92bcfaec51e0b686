"""The commands of `cachesim scenario`."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cachesim.cli.app import main
from cachesim.scenarios.files import library, read_file
from cachesim.scenarios.schema import schema

BAD = """\
version: 1
name: bad
timeline:
  - {at: 0s, fault: kil, target: {node: redis-a}}
  - {at: 5, fault: kill, target: {node: redis-d}}
"""


def run(*arguments: str) -> Result:
    """Run a command of `cachesim scenario` in this process."""
    return CliRunner().invoke(main, ["scenario", *arguments])


@pytest.fixture
def bad(tmp_path: Path) -> str:
    """A file with three mistakes."""
    path = tmp_path / "bad.yaml"
    path.write_text(BAD, encoding="utf-8")
    return str(path)


def test_list() -> None:
    """Each shipped scenario is there with its title."""
    result = run("list")
    assert result.exit_code == 0
    for name, line in zip(library(), result.output.splitlines(), strict=True):
        title = read_file(name).description.splitlines()[0]
        assert line.split(maxsplit=1) == [name, title]
    assert [it["name"] for it in json.loads(run("list", "--json").output)] == list(library())


def test_check(bad: str) -> None:
    """Mistakes of all files are printed to stderr, one a line; then the exit code is 2."""
    assert run("check", "az-outage").exit_code == 0
    result = run("check", "az-outage", bad)
    assert result.exit_code == 2
    assert result.stdout.splitlines() == ["az-outage: az-outage is valid. Steps: 1."]
    lines = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"{bad}:4:21",
        f"{bad}:5:10",
        f"{bad}:5:41",
    ]
    assert lines[0].startswith(f"{bad}:4:21: timeline[0].fault: no fault 'kil'")


def test_check_as_json(bad: str) -> None:
    """The same for programs."""
    result = run("check", "--json", bad)
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert (found[1]["line"], found[1]["column"]) == (5, 10)
    assert {"file", "line", "column", "key", "message"} == found[0].keys()
    assert json.loads(run("check", "--json", "az-outage").output) == []


def test_show(bad: str) -> None:
    """A scenario is shown with its times, its faults, and what is expected."""
    result = run("show", "lag-then-crash", "--seed", "3")
    assert result.exit_code == 0
    assert result.output.startswith("lag-then-crash, seed 3\n")
    assert "  90 s  crash  kill on role primary, for 300 s\n" in result.output
    assert "  lost_writes: max: bound\n" in result.output
    assert json.loads(run("show", "lag-then-crash", "--json").output)["steps"][1]["at"] == 90
    for wrong in (bad, "az-outag"):
        assert run("show", wrong).exit_code == 2
    assert "Did you mean az-outage?" in run("show", "az-outag").stderr


@pytest.mark.parametrize("source", ["", "az-outage"])
def test_new(source: str, tmp_path: Path) -> None:
    """A new file is valid, and is never written over another."""
    path = tmp_path / "My own_one.yaml"
    options = ["--from", source] if source else []
    assert run("new", str(path), *options).exit_code == 0
    text = path.read_text(encoding="utf-8")
    assert read_file(path).name == (source or "my-own-one")
    result = run("new", str(path))
    assert result.exit_code == 2
    assert "exists" in result.stderr
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("2026-01-01.yaml", "scenario-2026-01-01"),
        ("1e3.yaml", "scenario-1e3"),
        ("true.yaml", "scenario-true"),
        ("___.yaml", "scenario"),
        ("Über 2.yaml", "ber-2"),
    ],
)
def test_name_of_a_new_one(file: str, name: str, tmp_path: Path) -> None:
    """Whatever the file is called, what is written is valid."""
    path = tmp_path / file
    assert f"check {shlex.quote(str(path))}`" in run("new", str(path)).output
    assert read_file(path).name == name


def test_new_from_what_is_not_there(tmp_path: Path) -> None:
    """Nothing is written."""
    path = tmp_path / "x.yaml"
    result = run("new", str(path), "--from", "az-outag")
    assert result.exit_code == 2
    assert "Did you mean az-outage?" in result.stderr
    assert not path.exists()


def test_schema() -> None:
    """It is printed as JSON."""
    assert json.loads(run("schema").output) == schema()


def test_without_ruamel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, a command says what to install."""
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    result = run("check", "az-outage")
    assert result.exit_code == 1
    assert "pip install 'cachesim[scenarios]'" in result.stderr


def test_help_is_light() -> None:
    """The help of a command imports nothing of what the command needs."""
    script = (
        "import sys; from cachesim.cli.app import main\n"
        "main(['scenario', 'check', '--help'], standalone_mode=False)\n"
        "sys.exit(', '.join({'ruamel', 'pydantic'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

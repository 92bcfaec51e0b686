"""The README is true: its code runs, and its tables say what the code has."""

import re
import runpy
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_type_hints

import pytest

from cachesim import Fault, Settings, Simulator
from cachesim.cli import main
from cachesim.faults import Faults
from cachesim.topology import production

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks() -> list[tuple[int, str]]:
    """The Python blocks, each with the line that it begins in."""
    found = re.finditer(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return [(TEXT.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


BLOCKS = [pytest.param(code, id=f"line-{line}") for line, code in blocks()]
TESTS = [block for block in BLOCKS if "def test_" in str(block.values[0])]
SCRIPTS = [block for block in BLOCKS if block not in TESTS]


def table(head: str) -> list[list[str]]:
    """The cells of the rows of the table whose head begins so, without backticks."""
    _, _, rest = TEXT.partition(f"\n{head}")
    assert rest, f"no table {head}"
    lines = re.split(r"\n(?!\|)", rest, maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.usefixtures("require_docker")
@pytest.mark.parametrize("code", SCRIPTS)
def test_script(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script of the README runs, with the seeds and speeds that it names."""
    file = tmp_path / "script.py"
    file.write_text(code)
    monkeypatch.chdir(tmp_path)  # away from this project's own settings
    runpy.run_path(str(file), run_name="__main__")


@pytest.mark.usefixtures("require_docker")
@pytest.mark.parametrize("code", TESTS)
def test_test(code: str, pytester: pytest.Pytester) -> None:
    """A test of the README passes."""
    pytester.makepyfile(code)
    result = pytester.runpytest_subprocess("--cachesim", *plugin())
    result.assert_outcomes(passed=code.count("def test_"))


@pytest.mark.parametrize("code", TESTS)
def test_test_skips(code: str, pytester: pytest.Pytester) -> None:
    """Without the option, a test of the README is skipped."""
    pytester.makepyfile(code)
    result = pytester.runpytest_subprocess(*plugin())
    result.assert_outcomes(skipped=code.count("def test_"))


def plugin() -> list[str]:
    """What names the plugin to pytest, where it is not installed."""
    installed = "cachesim" in entry_points(group="pytest11").names
    return [] if installed else ["-p", "pytest_cachesim"]


def test_there_is_code() -> None:
    """The tests above have found what they are about."""
    assert len(TESTS) >= 2
    assert len(SCRIPTS) >= 2


def test_settings_table() -> None:
    """Every setting is there, in order, with its default."""
    documented = [(name, default) for name, default, _ in table("| name | default |")]
    assert documented == [
        (name, as_written(field.default)) for name, field in Settings.model_fields.items()
    ]


def as_written(default: object) -> str:
    """A default as the table has it."""
    match default:
        case None:
            return "none"
        case tuple():
            return "-".join(f"{number:g}" for number in default)
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def test_faults_table() -> None:
    """Every fault is there, and no other."""
    faults = {
        name
        for name, member in vars(Faults).items()
        if not name.startswith("_")
        and callable(member)
        and get_type_hints(member).get("return") is Fault
    }
    assert {name for name, *_ in table("| fault | on |")} == faults


@pytest.mark.usefixtures("require_docker")
def test_variables_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable that a service gets is there, in order."""
    monkeypatch.chdir(tmp_path)
    with Simulator() as sim:
        assert [name for name, _ in table("| variable |")] == list(sim.env())


def test_variables_of_zones() -> None:
    """Every zone's Toxiproxy has its variable, also where no engine is."""
    names = [name for name, _ in table("| variable |") if "TOXIPROXY" in name]
    assert names == [f"CACHESIM_TOXIPROXY_{zone.name.upper()}" for zone in production().zones]


def test_failover_table() -> None:
    """The durations are the defaults', and those at speed 30 are a thirtieth of them."""
    settings = Settings()
    spans = [settings.detection_seconds, settings.promotion_seconds, settings.replacement_seconds]
    assert [row[1:] for row in table("| phase |")] == [
        [f"{low:g}-{high:g} s", f"{low / 30:.2g}-{high / 30:.2g} s"] for low, high in spans
    ]


def test_commands() -> None:
    """Every command and every option of ours that is shown exists."""
    shown = re.findall(r"cachesim ([a-z]+)((?: --?[\w-]+(?: [\w.]+)?)*)", shell())
    assert {command for command, _ in shown} >= {"up", "env"}
    for command, options in shown:
        known = {flag for parameter in main.commands[command].params for flag in parameter.opts}
        assert set(re.findall(r"--[\w-]+", options)) <= known


def shell() -> str:
    """What is typed into a shell, in one text."""
    found = re.finditer(r"^ *```(?:sh|console)\n(.*?)^ *```$", TEXT, re.DOTALL | re.MULTILINE)
    return "\n".join(match[1] for match in found)


def test_commands_for_a_fresh_clone() -> None:
    """Two commands of one line each, and CI runs the second as it is."""
    section = TEXT.split("## From a fresh clone")[1].split("\n## ")[0]
    commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert [command.count("\n") for command in commands] == [1, 1]
    ci = README.with_name(".ci") / "run"
    if ci.is_file():  # the source distribution has none
        assert commands[1].strip() in ci.read_text()


def test_links_lead_somewhere() -> None:
    """Every relative link is a file here."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert targets
    for target in targets:
        assert (README.parent / target).is_file(), target

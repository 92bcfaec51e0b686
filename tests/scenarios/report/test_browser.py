"""The HTML report in a real browser."""

import re
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("theme", [[], ["--force-dark-mode"]], ids=["light", "dark"])
def test_opens(chromium: str, reports: Path, tmp_path: Path, theme: list[str]) -> None:
    """All charts are drawn, in light and in dark, and nothing is logged or asked for."""
    profile = tmp_path / "profile"
    command = [
        chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--enable-logging=stderr", "--disable-background-networking", "--no-first-run",
        f"--user-data-dir={profile}", "--virtual-time-budget=2000", *theme,
        (reports / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    charts = len(re.findall(r'class="chart"', done.stdout))
    assert charts >= 6
    assert f'data-charts="{charts}"' in done.stdout
    assert done.stdout.count("<canvas") == charts

"""The pages of the scenarios, each made from its file: its comment at the top, and what it does."""

import re
from collections.abc import Iterator
from pathlib import Path

from cachesim.scenarios.files import library, read

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "scenarios"
TITLES = ("What it shows", "In production", "If your client fails it")
"""The paragraphs of the comment at the top of each file, `# Title: text`."""


def examples() -> dict[str, str]:
    """Return the texts of the scenarios that are examples, by name."""
    return {file.stem: file.read_text("utf-8") for file in sorted(EXAMPLES.glob("*.yaml"))}


def comment(text: str) -> dict[str, str]:
    """Return the paragraphs of the comment at the top of a file, by title."""
    lines = re.match(r"(?:#.*\n)*", text)
    assert lines is not None  # noqa: S101  # it may be empty
    found = {}
    for paragraph in lines[0].split("\n#\n"):
        title, _, rest = re.sub(r"\s*\n?# ?", " ", paragraph).strip().partition(": ")
        found[title] = rest
    return found


def page(name: str) -> Iterator[str]:
    """Describe one scenario: what it is about, how it is run, and its file."""
    shipped = library()
    text = shipped[name] if name in shipped else examples()[name]
    yield from read(text, name).description.splitlines()
    for title, paragraph in comment(text).items():
        yield from ("", f"**{title}.** {paragraph[:1].upper()}{paragraph[1:]}")
    where = name if name in shipped else f"examples/scenarios/{name}.yaml"
    yield from ("", "```text", f"$ cachesim run {where}", "```", "", "```yaml")
    yield from re.sub(r"^(?:#.*\n)*", "", text).splitlines()
    yield "```"


def titles(kind: str) -> Iterator[tuple[str, str]]:
    """Yield a link to each scenario that is `shipped`, or one of the `examples`, and its title."""
    found = library() if kind == "shipped" else examples()
    for name, text in found.items():
        yield f"[{name}](../scenarios/{name}.md)", read(text, name).description.partition("\n")[0]

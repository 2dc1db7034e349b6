"""The page for the data-protection officer leaves no command out, and names none that is not there."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data-protection.md").read_text(encoding="utf-8")


def commands() -> set[str]:
    spec = importlib.util.spec_from_file_location("commands_of_the_page", ROOT / "docs" / "commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name for name, _ in module.commands()}


def named() -> list[str]:
    """Return the commands in the first column of the page's first table."""
    table = PAGE.split("| command | what leaves the site |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return [
        name.removesuffix(" --join") for cell in cells for name in re.findall(r"`([^`]+)`", cell) if name != "--join"
    ]


def test_the_page_says_of_every_command_what_leaves_the_site() -> None:
    assert commands() - set(named()) == set()


def test_the_page_names_no_command_that_is_not_there() -> None:
    assert set(named()) - commands() == set()
    examples = re.findall(r"`swarmcell ([a-z ]+[a-z])", PAGE)
    assert [
        text for text in examples if not any(text == name or text.startswith(f"{name} ") for name in commands())
    ] == []


def test_every_link_within_the_page_leads_somewhere() -> None:
    heads = {
        re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^## (.+)$", PAGE, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) - heads == set()

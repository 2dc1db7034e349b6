"""No command and no option is undocumented."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
NAMED = r"\b(?:sample_data|configs)/[\w./-]*[\w/](?![\w$*<-])"


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("commands_pages", ROOT / "docs" / "commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = _module()
COMMANDS = dict(PAGES.commands())


def test_the_commands_that_the_readme_promises_exist() -> None:
    promised = {"preprocess", "train", "evaluate", "predict", "init", "doctor", "runs", "demo"}
    promised |= {"identity create", "identity show", "swarm create", "swarm status", "swarm verify", "swarm show"}
    assert promised <= set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_page_with_its_options_as_they_are(name: str) -> None:
    text = PAGES.page(name).read_text(encoding="utf-8")
    assert PAGES.refreshed(text, PAGES.options(COMMANDS[name])) == text, "run: python docs/commands.py"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_a_help_text_and_every_command_an_example(name: str) -> None:
    command = COMMANDS[name]
    silent = [p.name for p in command.params if p.name != "help" and not getattr(p, "help", None)]
    assert not silent
    assert "Example:" in command.help
    assert f"swarmcell {name}" in command.help


@pytest.mark.parametrize("folder", ["README.md", "docs", "src/swarmcell/cli"])
def test_every_sample_and_config_that_is_named_is_there(folder: str) -> None:
    files = [ROOT / folder] if folder.endswith(".md") else sorted((ROOT / folder).rglob("*.*"))
    texts = {path.name: path.read_text(encoding="utf-8") for path in files if path.suffix in {".md", ".py"}}
    named = {(name, path) for name, text in texts.items() for path in re.findall(NAMED, text)}
    assert named
    assert [(name, path) for name, path in named if not (ROOT / path).exists()] == []


def test_every_page_belongs_to_a_command() -> None:
    assert {path.name for path in PAGES.PAGES.glob("*.md")} == {PAGES.page(name).name for name in COMMANDS}


def test_the_table_shows_every_flag() -> None:
    for name, command in COMMANDS.items():
        text = PAGES.page(name).read_text(encoding="utf-8")
        flags = [flag for p in command.params if p.param_type_name == "option" for flag in p.opts]
        assert [flag for flag in flags if f"`{flag}`" not in text] == [], name

"""Writes the table of arguments and options into each page under docs/commands/, from the command line itself.

`python docs/commands.py` refreshes the tables and keeps the prose; a page that is missing is begun. A test holds the
pages up to date, so that no command and no option is undocumented.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from swarmcell.cli.app import app

PAGES = Path(__file__).parent / "commands"
BEGIN, END = "<!-- options: made by docs/commands.py -->", "<!-- end of options -->"


def commands() -> Iterator[tuple[str, Any]]:
    """Yield each command's name (`swarm create`) and its click command."""
    yield from _below("", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (click's class differs by version)
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for part, below in sorted(inner.items()):
        yield from _below(f"{name} {part}".strip(), below)


def page(name: str) -> Path:
    """Return the page of a command."""
    return PAGES / f"{name.replace(' ', '-')}.md"


def options(command: Any) -> str:  # noqa: ANN401
    """Return the usage line and the table of a command's arguments and options."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    given = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    lines = ["| argument or option | meaning |", "|---|---|"]
    lines += [f"| `{_argument(p)}` | {_cell(getattr(p, 'help', None))} |" for p in arguments]
    lines += [f"| {_flags(p)} | {_cell(p.help)}{_default(p)} |" for p in given]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:  # noqa: ANN401
    name = parameter.name.upper()
    return f"{name}..." if parameter.nargs == -1 else name


def _flags(parameter: Any) -> str:  # noqa: ANN401
    return ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")


def _default(parameter: Any) -> str:  # noqa: ANN401
    value = parameter.default
    if (
        parameter.required
        or callable(value)
        or value in (None, "", False, True, ())
        or not isinstance(value, int | float | str | Path)
    ):
        return ""
    return f" Default: `{value}`."


def refreshed(text: str, table: str) -> str:
    """Return a page's text with its table replaced."""
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def begun(name: str, command: Any) -> str:  # noqa: ANN401
    """Return the first text of a page: the command's own help."""
    return f"# swarmcell {name}\n\n{_dedent(command.help)}\n\n## Options\n\n{BEGIN}\n{END}\n"


def _dedent(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").strip().splitlines())


def main() -> None:
    """Refresh every page."""
    for name, command in commands():
        path = page(name)
        text = path.read_text(encoding="utf-8") if path.is_file() else begun(name, command)
        path.write_text(refreshed(text, options(command)), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Reading a TOML file into a frozen model, with errors that name the file, the key and the remedy."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from swarmcell.errors import ConfigError, InputError

Model = TypeVar("Model", bound=BaseModel)


class FrozenModel(BaseModel):
    """A frozen value whose unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    InputError
        If the file is missing or unreadable.
    ConfigError
        If it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}). Check the path."
        raise InputError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not a TOML file ({error}). Compare it with the examples in configs/."
        raise ConfigError(msg) from error


_KINDS = (  # a key that only one kind of file has, and what that file is
    ("invitation", "an invitation"),
    ("founders", "a swarm file"),
    ("study", "a study's configuration"),
    ("signing_key", "an identity's card"),
    ("engine", "a site file"),
    ("certificate", "an engine card"),
)


def kind_of(content: dict[str, Any]) -> str:
    """Return what a TOML file seems to be, for an error about a file of the wrong kind."""
    return next((kind for key, kind in _KINDS if key in content), "another file")


def load(path: Path, model: type[Model]) -> Model:
    """Read `path` as `model`.

    Raises
    ------
    InputError
        If the file cannot be read.
    ConfigError
        If it is not TOML, or a key is missing, unknown or impossible.
    """
    return parse(read_toml(path), model, source=str(path))


def parse(content: dict[str, Any], model: type[Model], *, source: str) -> Model:
    """Read a mapping as `model`; `source` is the name that an error shows."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in e['loc']) or '(file)'}: {_reason(e)}" for e in error.errors()]
        msg = "\n".join([f"{source}: {len(lines)} value(s) to mend:", *lines])
        raise ConfigError(msg) from error


def _reason(error: Any) -> str:  # noqa: ANN401 (pydantic's ErrorDetails)
    if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return "unknown key; remove it, or check its spelling"
    if error["type"] == "missing":
        return "missing"
    if isinstance(error["input"], dict):  # a rule about several keys; the file has them all
        return str(error["msg"]).removeprefix("Value error, ")
    return f"{error['msg']} (got {error['input']!r})"

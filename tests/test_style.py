"""The house's style, where no linter checks it."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_MAX = 400
BANNED_NAMES = {"data", "manager", "util", "utils", "helper", "helpers"}
MACHINE_PATHS = tuple(f"/{folder}/" for folder in ("work", "root", "home"))
REGISTRIES = tuple(".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org")))
SUFFIXES = {".py", ".md", ".toml", ".txt", ".json", ".csv", ".j2", ".css", ".yml", ".yaml", ".cfg", ".sh", ""}
NAMED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def committed():
    """Return the files under version control, or all of them where git is not there (an unpacked archive)."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: what is committed is not known")
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def texts():
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in committed()
        if path.suffix in SUFFIXES and "sample_data/" not in str(path)
    }


def modules(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_this_test_sees_the_files():
    assert {"README.md", "Makefile", "pyproject.toml", "src/swarmcell/cli/app.py"} <= set(texts())


def test_no_file_names_a_path_of_somebodys_machine():
    found = [
        f"{name}: {path}{rest}"
        for name, text in texts().items()
        for path in MACHINE_PATHS
        for rest in re.findall(rf"(?<![\w.\-$}}]){re.escape(path)}(\S*)", text)
    ]
    assert found == []


def test_no_file_names_a_package_registry():
    found = [(name, host) for name, text in texts().items() for host in REGISTRIES if host in text]
    assert found == []


def test_no_source_file_is_longer_than_a_reader_can_hold():
    lengths = {path: len(path.read_text().splitlines()) for path in modules("src", "benchmarks", "docs", "sample_data")}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > LINES_MAX} == {}


def test_no_module_class_or_function_has_a_name_that_says_nothing():
    found = []
    for path in modules("src", "tests", "benchmarks"):
        found += [str(path)] * (path.stem in BANNED_NAMES)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, NAMED) and node.name.strip("_").lower() in BANNED_NAMES:
                found.append(f"{path}:{node.lineno} {node.name}")
    assert found == []


def test_every_module_says_what_it_owns():
    silent = [str(path) for path in modules("src") if path.read_text().strip() and not ast.get_docstring(_tree(path))]
    assert silent == []


def _tree(path):
    return ast.parse(path.read_text())


def test_tests_mirror_the_source():
    beside = {"acceptance", "docs", "harness", "sample_data", "simulation", "system"}
    packages = {path.parent.name for path in (ROOT / "src" / "swarmcell").glob("*/__init__.py")}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.rglob("*.py"))}
    assert folders <= packages | beside

"""Each test has identities of its own."""

import pytest


@pytest.fixture(autouse=True)
def own_identities(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

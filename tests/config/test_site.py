"""Facts about the site file."""

from pathlib import Path

import pytest

from swarmcell.config import site
from swarmcell.errors import ConfigError, InputError


@pytest.mark.parametrize("text", ["", "name = 1", 'name = "a"\nport = 1', 'name = "a"\n[engine]\nkind = "smoke"', "]["])
def test_a_wrong_site_file_is_refused(tmp_path, text):
    path = tmp_path / "site.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"site\.toml"):
        site.load_site(path)


def test_a_named_site_file_must_exist(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        site.load_site(tmp_path / "none.toml")


def test_without_a_site_file_the_log_stands_beside_the_swarm_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert site.load_site(None) is None
    log = site.open_log(None, tmp_path / "swarm.toml", b"\xab" * 32)
    assert log._path == tmp_path / "swarm.abababab.log"


def test_the_log_of_a_site_file_is_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("site.toml").write_text('name = "a"\n[engine]\nkind = "embedded"\npath = "shared/swarm.log"')
    log = site.open_log(site.load_site(None), Path("elsewhere/swarm.toml"), bytes(32))
    assert log._path == tmp_path / "shared" / "swarm.log"


def test_the_template_is_a_site_file(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(site.template("site-a"))
    assert site.load_site(path) == site.Site(name="site-a")
    assert site.load_site(path).signs_as == "site-a"

"""A network of hospitals on one machine: a namespace each, joined by a bridge; one of them behind a proxy only.

Nothing leaves these namespaces. Hosts' names come from /etc/netns, which `ip netns exec` puts in place of /etc/hosts.
"""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

PROXY = Path(__file__).with_name("connect_proxy.py")


def missing():
    """Return why there can be no such network, or an empty text."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need `ip` (apt-get install iproute2)"
    name = _name()
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "this machine lets nobody make a network namespace"
    ip("netns", "del", name)
    return ""


def _name():
    """Return a name that no other run has used: one that was killed leaves its namespaces behind."""
    return f"sc{secrets.token_hex(4)}"


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Network:
    """Namespaces `site-a`, ... on one bridge, each at 10.77.0.N; `site-d` sees its proxy and nothing else."""

    def __init__(self, open_sites, hidden, names):
        self._tag = _name()
        self.open_sites, self.hidden = open_sites, hidden
        self._made, self._processes = [], []
        self._hosts = "".join(f"10.77.0.{n} {name}\n" for n, name in enumerate(names, 1))

    def space(self, site):
        return f"{self._tag}-{site}"

    def up(self):
        for site in ("middle", *self.open_sites, "proxy", self.hidden):
            self._add(site)
        ip("-n", self.space("middle"), "link", "add", "bridge", "type", "bridge")
        ip("-n", self.space("middle"), "link", "set", "bridge", "up")
        for n, site in enumerate((*self.open_sites, "proxy"), 1):
            self._join(site, "wan", "middle", f"to-{n}")
            ip("-n", self.space("middle"), "link", "set", f"to-{n}", "master", "bridge")
            ip("-n", self.space(site), "address", "add", f"10.77.0.{n}/24", "dev", "wan")
        self._join(self.hidden, "lan", "proxy", "lan")
        ip("-n", self.space("proxy"), "address", "add", "10.78.0.1/24", "dev", "lan")
        ip("-n", self.space(self.hidden), "address", "add", "10.78.0.2/24", "dev", "lan")
        self._processes.append(self.start("proxy", [sys.executable, str(PROXY), "10.78.0.1", "3128"], {}))
        return self

    def _add(self, site):
        space = self.space(site)
        ip("netns", "add", space)
        self._made.append(space)
        folder = Path("/etc/netns") / space
        folder.mkdir(parents=True)
        known = self._hosts if site != self.hidden else "10.78.0.1 proxy.hospital-d.example\n"
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        ip("-n", space, "link", "set", "lo", "up")

    def _join(self, site, device, other, other_device):
        ip("link", "add", device, "netns", self.space(site), "type", "veth",
           "peer", "name", other_device, "netns", self.space(other))  # fmt: skip
        ip("-n", self.space(site), "link", "set", device, "up")
        ip("-n", self.space(other), "link", "set", other_device, "up")

    def start(self, site, command, environment, **options):
        inside = ["ip", "netns", "exec", self.space(site), *command]
        return subprocess.Popen(inside, env={**os.environ, **environment}, **options)

    def pull_cable(self, site):
        ip("-n", self.space(site), "link", "set", "wan", "down")

    def plug_cable(self, site):
        ip("-n", self.space(site), "link", "set", "wan", "up")

    def reaches(self, site, host, port):
        code = f"import socket; socket.create_connection(({host!r}, {port}), timeout=1)"
        return self.start(site, [sys.executable, "-c", code], {}, stderr=subprocess.DEVNULL).wait() == 0

    def down(self):
        for process in self._processes:
            process.kill()
            process.wait()
        for space in reversed(self._made):
            ip("netns", "del", space)
            shutil.rmtree(Path("/etc/netns") / space)

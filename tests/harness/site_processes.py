"""Sites of a swarm as processes of the command line; they write to files, so none blocks, and none is left over."""

import os
import subprocess
import sys

from waiting import LIMIT_S, wait_until


class SiteProcesses:
    """Runs `swarmcell ARGUMENTS` for each site in one folder; a `with` block ends what is left.

    Parameters
    ----------
    arguments
        Makes a site's command line of its name.
    """

    def __init__(self, folder, arguments):
        self.folder, self.arguments, self.running = folder, arguments, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running.values():
            process.kill()
            process.wait()

    def start(self, *sites):
        for site in sites:
            command = [sys.executable, "-m", "swarmcell", *self.arguments(site)]
            with self._file(site).open("ab") as said:
                self.running[site] = subprocess.Popen(
                    command, cwd=self.folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=said, stderr=said
                )

    def said(self, site):
        return self._file(site).read_text()

    def wait_for(self, site, text):
        """Wait until a site has said this."""

        def is_up():
            assert self.running[site].poll() is None, self.said(site)

        wait_until(lambda: text in self.said(site), lambda: self.said(site), check=is_up)

    def stop(self, site, signal):
        """Send a signal; return the exit code."""
        self.running[site].send_signal(signal)
        return self.running[site].wait(timeout=LIMIT_S)

    def all_ended(self):
        for site, process in self.running.items():
            assert process.wait(timeout=LIMIT_S) == 0, f"{site}: {self.said(site)}"
            assert "Traceback" not in self.said(site)

    def _file(self, site):
        return self.folder / f"{site}.said.txt"

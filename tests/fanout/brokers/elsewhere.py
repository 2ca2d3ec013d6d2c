"""A machine whose network can go away without a word: a network namespace, and a cable to it.

It needs root. Nothing of it is left when its last process has ended.
"""

from __future__ import annotations

import os
import subprocess
from typing import Self

NETWORKS = 32_768  # with four addresses each, in 198.18.0.0/15, which is for such tests
NOBODY = "02:00:00:00:00:01"


class Elsewhere:
    """A context manager."""

    def __enter__(self) -> Self:
        assert os.geteuid() == 0, "only root can make a network namespace"
        script = "ip link set lo up && echo ready && exec sleep infinity"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        pid = self._holder.pid
        number = 4 * (pid % NETWORKS)
        network = f"198.{18 + number // 65_536}.{number // 256 % 256}."
        self._here, self.address = (f"{network}{number % 256 + last}" for last in (1, 2))
        self._cable, self._end = f"here{pid}", f"there{pid}"
        ends = ("ip", "link", "add", self._cable, "type", "veth", "peer", "name", self._end)
        _run(*ends, "netns", str(pid))
        _run("ip", "address", "add", f"{self._here}/30", "dev", self._cable)
        _run("ip", "link", "set", self._cable, "up")
        _run(*self.inside, "ip", "address", "add", f"{self.address}/30", "dev", self._end)
        _run(*self.inside, "ip", "link", "set", self._end, "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    @property
    def inside(self) -> list[str]:
        """What stands before a command that is to run there."""
        return ["nsenter", "--net", "--target", str(self._holder.pid), "--"]

    def cut(self) -> None:
        """From now on nothing arrives, in neither direction, and nobody is told.

        Packets go to an Ethernet address that is nobody's.
        """
        for where, end, other in self._ways():
            told = ("lladdr", NOBODY, "dev", end, "nud", "permanent")
            _run(*where, "ip", "neighbour", "replace", other, *told)

    def heal(self) -> None:
        """As before."""
        for where, end, other in self._ways():
            _run(*where, "ip", "neighbour", "delete", other, "dev", end)

    def _ways(self) -> list[tuple[list[str], str, str]]:
        return [([], self._cable, self.address), (self.inside, self._end, self._here)]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=10)

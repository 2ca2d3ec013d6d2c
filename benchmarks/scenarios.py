"""The scenarios: what the load generator does, through which path of the applications.

A unit is what the CPU time is divided by. In a ``throughput`` scenario the server
must have been saturated; in the others (one connection, a fixed rate) it need not.
"""

from __future__ import annotations

from dataclasses import dataclass

from .servers import Server

FRAMEWORKS = ("raw", "starlette", "fastapi")


@dataclass(frozen=True)
class Scenario:
    """One kind of load. ``load`` are the arguments of the load generator, mode first.

    With ``uds`` the server listens on a Unix socket instead of a port.
    """

    name: str
    title: str
    load: str
    unit: str = "message"
    apps: tuple[str, ...] = ("raw",)
    throughput: bool = True
    quick: bool = False
    counts: bool = False
    uds: bool = False
    slices: int = 6
    slice_ms: int = 250

    @property
    def mode(self) -> str:
        return self.load.split()[0]

    @property
    def http(self) -> bool:
        return self.mode in ("hello", "post", "download", "fresh", "requests")

    @property
    def deflate(self) -> bool:
        return "--deflate" in self.load

    def fits(self, server: Server) -> bool:
        """Return whether this server can run it; each floor runs only its own scenarios."""
        if (self.http and not server.http) or (self.deflate and not server.deflate):
            return False
        if self.uds and not server.uds:
            return False
        floors = ("hello",) if server.http else ("echo", "rate", "broadcast", "handshake", "idle")
        if server.floor and self.mode not in floors:
            return False
        if server.tcp and self.mode in ("handshake", "idle"):
            return False
        return server.measures(self.name)


_SIZES = [
    # bytes, name, title, arguments, applications
    (16, "16", "16 B", "", FRAMEWORKS),
    (125, "125", "125 B", "", FRAMEWORKS),
    (1024, "1k", "1 KiB", "", ("raw",)),
    (16 << 10, "16k", "16 KiB, binary", " --binary", ("raw",)),
    (64 << 10, "64k", "64 KiB, binary", " --binary", ("raw",)),
    (1 << 20, "1m", "1 MiB, binary", " --binary", ("raw",)),
]


def _echoes() -> list[Scenario]:
    scenarios = []
    for size, name, title, arguments, apps in _SIZES:
        # The kernel's buffers of 64 connections with a MiB each way fit no cache, and
        # moving them would cost the client more than the server: 16 are enough to saturate it.
        many = 16 if size == 1 << 20 else 64
        scenarios.append(
            Scenario(
                f"echo-{name}-{many}",
                f"echo {title}, {many} connections",
                f"echo --connections {many} --size {size}{arguments}",
                apps=apps,
                quick=size != 1 << 10,
                counts=size == 125,
                slice_ms=400 if size == 1 << 20 else 250,
            )
        )
        scenarios.append(
            Scenario(
                f"echo-{name}-1",
                f"echo {title}, 1 connection",
                f"echo --connections 1 --size {size}{arguments}",
                throughput=False,
            )
        )
    return scenarios


_ALL = [
    *_echoes(),
    Scenario(
        "echo-64k-text",
        "echo 64 KiB, text, 64 connections",
        "echo --connections 64 --size 65536",
    ),
    Scenario(
        "echo-125-uds",
        "echo 125 B over a Unix socket, 64 connections",
        "echo --connections 64 --size 125",
        uds=True,
    ),
    Scenario(
        "pipelined-16",
        "echo 16 B, 64 connections, 16 in flight",
        "echo --connections 64 --inflight 16 --size 16",
        apps=FRAMEWORKS,
        quick=True,
        counts=True,
    ),
    Scenario(
        "deflate-1k",
        "permessage-deflate echo of 1 KiB JSON, 64 connections",
        "echo --connections 64 --size 1024 --json --deflate",
        quick=True,
    ),
    Scenario(
        "deflate-64k",
        "permessage-deflate echo of 64 KiB JSON, 16 connections",
        "echo --connections 16 --size 65536 --json --deflate",
    ),
    Scenario(
        "push", "push: the server streams 125 B", "push --path /push", quick=True, counts=True
    ),
    Scenario(
        "flood",
        "flood: the client streams 125 B",
        "flood --path /flood --size 125",
        quick=True,
        counts=True,
    ),
    Scenario(
        "broadcast-500",
        "broadcast of 125 B to 500 connections",
        "broadcast --path /broadcast --connections 500 --size 125",
        unit="delivery",
        apps=FRAMEWORKS,
        quick=True,
        counts=True,
    ),
    Scenario(
        "handshake",
        "handshake: upgrade, one echo, close",
        "handshake --connections 16",
        unit="handshake",
        quick=True,
        counts=True,
    ),
    Scenario(
        "handshake-browser",
        "handshake with a browser's headers",
        "handshake --connections 16 --browser",
        unit="handshake",
    ),
    Scenario(
        "slow-client",
        "63 busy echoes of 125 B beside a slow client",
        "slow --connections 64 --size 125",
    ),
    Scenario(
        "hello",
        "HTTP hello, 64 connections kept alive",
        "hello --path /hello --connections 64",
        unit="request",
        apps=FRAMEWORKS,
        quick=True,
        counts=True,
    ),
    Scenario(
        "hello-uds",
        "HTTP hello over a Unix socket, 64 connections kept alive",
        "hello --path /hello --connections 64",
        unit="request",
        uds=True,
    ),
    Scenario(
        "post-1k",
        "HTTP POST, echo of 1 KiB",
        "post --path /post --connections 64 --size 1024",
        unit="request",
    ),
    Scenario(
        "post-10k",
        "HTTP POST, echo of 10 KiB",
        "post --path /post --connections 64 --size 10240",
        unit="request",
    ),
    Scenario(
        "download",
        "HTTP download of 1 MiB, streamed in 64 chunks",
        "download --path /download --connections 8 --size 1048576",
        unit="request",
    ),
    Scenario(
        "file-1m",
        "a file of 1 MiB, Starlette's FileResponse",
        "download --path /file --connections 8 --size 1048576",
        unit="request",
        apps=("starlette",),
    ),
    Scenario(
        "file-64k",
        "a file of 64 KiB, Starlette's FileResponse",
        "download --path /file-64k --connections 64 --size 65536",
        unit="request",
        apps=("starlette",),
    ),
    Scenario(
        "json",
        "HTTP hello as JSON, 64 connections kept alive",
        "hello --path /json --connections 64 --json",
        unit="request",
        apps=("fastapi",),
    ),
    Scenario(
        "connections",
        "HTTP hello, 64 connections, a new one for each request",
        "fresh --path /hello --connections 64",
        unit="request",
    ),
    *(
        Scenario(
            f"requests-{rate}",
            f"{rate:,} requests/s over 64 connections",
            f"requests --path /hello --rate {rate} --connections 64",
            unit="request",
            throughput=False,
            slices=12,
        )
        for rate in (1000, 10_000)
    ),
    *(
        Scenario(
            f"rate-{connections}",
            f"5,000 messages/s of 125 B over {connections:,} connections",
            f"rate --rate 5000 --connections {connections} --size 125",
            throughput=False,
        )
        for connections in (10, 100, 1000, 10_000)
    ),
    *(
        Scenario(
            f"idle-{connections}{'-deflate' if deflate else ''}",
            f"{connections:,} idle connections{', permessage-deflate' if deflate else ''}",
            f"idle --connections {connections} --size 1024 --json"
            + (" --deflate" if deflate else ""),
            unit="connection",
            throughput=False,
            quick=connections == 5000 and not deflate,
        )
        for connections, deflate in ((1000, False), (5000, False), (10_000, False), (5000, True))
    ),
]
SCENARIOS = {scenario.name: scenario for scenario in _ALL}

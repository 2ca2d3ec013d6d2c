"""The soak: a fleet under faults for a long time, and a checker that knows every message.

A real server with several workers, on loopback. Subscribers come and go, publishers publish
in the workers and from outside, and from time to time something happens to a worker. At the
end it becomes quiet: what is still owed must come.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from tests.fanout.brokers.nats_server import NatsServer
from tests.fanout.brokers.redis_server import RedisServer
from tests.toolkit.served import Served

from .checker import Checker
from .clients import Http, Subscriber, publish_over_http, subscribers
from .topics import KEPT, PLAIN

PATIENCE: Final = 15.0  # a stopped worker is killed after five seconds
LOOK_SECONDS: Final = 0.5
ROLL_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 30.0
SUSPICIOUS: Final = ("Traceback (most", "Exception", "cannot be read (")


FAULTS: Final = ("kill", "stop", "hang", "roll", "upgrade")
LOCAL_FAULTS: Final = ("flood", "stop_kill", "stop_roll", "resize")
BROKER_FAULTS: Final = ("broker_kill", "broker_freeze", "broker_hang")
BROKER_PATIENCE: Final = 40.0  # a broker is looked for every ten seconds


class Plan(NamedTuple):
    """How long, and what happens."""

    seconds: float
    seed: int = 1
    workers: int = 4
    rate: float = 40.0  # publications a second, in all
    pause: float = 15.0  # seconds between two faults
    # Each once, in any order, and then again; () for all that may happen.
    faults: tuple[str, ...] = ()
    url: str | None = None  # of a broker: its scheme and its options
    history: int = 1 << 26  # bytes of all that is kept


class Broker(Protocol):
    """A broker that the soak has started."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def send(self, number: signal.Signals) -> None: ...


class Verdict(NamedTuple):
    """What was seen."""

    passed: bool
    violations: list[str]
    counts: Counter[str]
    output: list[str]


class Journals:
    """What the workers have written down."""

    def __init__(self, folder: Path, checker: Checker) -> None:
        self._folder = folder
        self._checker = checker
        self._read: dict[Path, int] = {}

    def read(self) -> None:
        """Bring the ledger up to date."""
        ledger = self._checker.ledger
        for path in self._folder.glob("*.journal"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, _, _ = file.read().rpartition(b"\n")
            if not whole:
                continue
            self._read[path] = self._read.get(path, 0) + len(whole) + 1
            pid = int(path.stem)
            for line in whole.decode().split("\n"):
                kind, *words = line.split()
                if kind == "dropped":
                    self._checker.dropped[words[0]] = int(words[1])
                    continue
                topic, publisher, number, seconds = words
                if kind == "begin":
                    ledger.begin(topic, publisher, int(number), float(seconds))
                elif kind == "done":
                    ledger.done(topic, publisher, int(number), float(seconds), pid)
                else:
                    ledger.fail(topic, publisher, int(number))


class Soak:
    """One run."""

    def __init__(self, plan: Plan, served: Served, folder: Path, broker: Broker | None) -> None:
        self.plan = plan
        self.served = served
        self.port = served.port
        self.folder = folder
        self.broker = broker
        # What goes through a broker comes back when it comes.
        self.checker = Checker(BROKER_PATIENCE if broker else PATIENCE, is_local=not broker)
        self.journals = Journals(folder, self.checker)
        self.life = plan.pause * 1.5
        self.quiet = False
        self.settled = False
        self._random = random.Random(plan.seed)
        self._began = time.monotonic()
        self._told: Counter[str] = Counter()

    async def run(self) -> None:
        clients = subscribers(self)
        running = [asyncio.create_task(client.run()) for client in clients]
        publishing = [
            asyncio.create_task(publish_over_http(self, f"http{number}", topics, rate))
            for number, (topics, rate) in enumerate(
                (
                    (PLAIN, 4.0),
                    (KEPT, 4.0),
                    (KEPT, 2.0),
                    (("heavy:0",), 20.0),
                    (("heavy-kept:0",), 20.0),
                )
            )
        ]
        looking = asyncio.create_task(self._look())
        try:
            await self._disturb(time.monotonic() + self.plan.seconds)
            await self._settle(clients)
        finally:
            for task in (*running, *publishing, looking):
                task.cancel()
            results = await asyncio.gather(*running, *publishing, looking, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    # What happens.

    async def _disturb(self, deadline: float) -> None:
        """One fault after the other, and some peace between them, until that time has come."""
        faults: list[str] = []
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self.plan.pause * self._random.uniform(0.5, 1.5)))
            if left <= self.plan.pause:
                continue
            if not faults:
                others = LOCAL_FAULTS if self.broker is None else BROKER_FAULTS
                faults = list(self.plan.faults or FAULTS + others)
                self._random.shuffle(faults)
            name = faults.pop()
            self.checker.counts[f"fault: {name}"] += 1
            self.checker.disturb(time.monotonic())
            await getattr(self, f"_{name}")()
            self.checker.disturb(time.monotonic())

    def _tell(self, what: str) -> None:
        print(
            f"{time.monotonic():.3f} ({time.monotonic() - self._began:.0f} s): {what}", flush=True
        )

    def _workers(self) -> list[int]:
        return self.served.children("process.worker")

    async def _kill(self) -> None:
        pid = self._random.choice(self._workers())
        self._tell(f"worker {pid} is killed")
        self.checker.ledger.killed[pid] = time.monotonic()
        os.kill(pid, signal.SIGKILL)

    async def _stop(self) -> None:
        """A worker stands still, not long enough to be killed for it."""
        pid = self._random.choice(self._workers())
        self._tell(f"worker {pid} stands still for a while")
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(0.5, 3.0))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def _hang(self) -> None:
        """A worker stands still until it is killed."""
        pid = self._random.choice(self._workers())
        self._tell(f"worker {pid} stands still")
        self.checker.ledger.killed[pid] = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        await asyncio.to_thread(
            self.served.wait_until, lambda: not os.path.exists(f"/proc/{pid}"), "its end"
        )

    async def _flood(self) -> None:
        """The others publish more to a worker that stands still than they keep for it."""
        pid = self._random.choice(self._workers())
        topic = self._random.choice(("heavy:0", "heavy-kept:0"))
        self._tell(f"worker {pid} stands still, and {topic} is flooded")
        os.kill(pid, signal.SIGSTOP)
        messages = self._random.choice((20, 100, 300))
        asking = [asyncio.create_task(self._ask_for_flood(topic, messages)) for _ in range(4)]
        await asyncio.sleep(self._random.uniform(0.5, 4.0))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        await self._ask_for_flood(topic, 10)
        await asyncio.gather(*asking)

    async def _ask_for_flood(self, topic: str, messages: int) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(10.0):
                http = await Http.open(self.port)
                try:
                    await http.request("POST", f"/flood/{topic}", str(messages).encode())
                finally:
                    http.close()

    async def _stop_kill(self) -> None:
        """A worker stands still, and is killed then."""
        pid = self._random.choice(self._workers())
        self._tell(f"worker {pid} stands still for a while, and is killed")
        self.checker.ledger.killed[pid] = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(0.0, 3.0))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    async def _stop_roll(self) -> None:
        """A worker stands still while others are replaced."""
        pid = self._random.choice(self._workers())
        self._tell(f"worker {pid} stands still for a while")
        os.kill(pid, signal.SIGSTOP)
        rolling = asyncio.create_task(self._replaced(signal.SIGHUP))
        await asyncio.sleep(self._random.uniform(1.0, 4.0))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        await rolling

    async def _resize(self) -> None:
        """One worker more, and one fewer."""
        ready = len(self.served.lines("is ready")) + 1
        self._tell("SIGTTIN, and SIGTTOU")
        self.served.send(signal.SIGTTIN)
        await asyncio.to_thread(self.served.wait_for_count, "is ready", ready)
        await asyncio.sleep(self._random.uniform(0.0, 2.0))
        self.served.send(signal.SIGTTOU)
        await asyncio.to_thread(
            self.served.wait_until, lambda: len(self._workers()) <= self.plan.workers, "its end"
        )

    async def _roll(self) -> None:
        await self._replaced(signal.SIGHUP)

    async def _upgrade(self) -> None:
        await self._replaced(signal.SIGUSR2)

    async def _replaced(self, how: signal.Signals) -> None:
        done = len(self.served.lines("All workers are replaced")) + 1
        self._tell(how.name)
        self.served.send(how)
        await asyncio.to_thread(self.served.wait_for_count, "All workers are replaced", done)

    async def _broker_kill(self) -> None:
        assert self.broker is not None
        self._tell("the broker is killed")
        self.broker.kill()
        await asyncio.sleep(self._random.uniform(0.0, 8.0))
        await asyncio.to_thread(self.broker.start)

    async def _broker_freeze(self, least: float = 0.5, most: float = 4.0) -> None:
        assert self.broker is not None
        self._tell("the broker stands still")
        self.broker.send(signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(least, most))
        self.broker.send(signal.SIGCONT)

    async def _broker_hang(self) -> None:
        """It is given up."""
        await self._broker_freeze(9.0, 12.0)

    # What is seen.

    async def _look(self) -> None:
        minute = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look_once()
            if time.monotonic() - minute >= 60:
                minute = time.monotonic()
                self.report()

    def _look_once(self) -> None:
        now = time.monotonic()
        pending = self.checker.pending()
        self.journals.read()
        self.checker.look(pending, now)

    def report(self) -> None:
        """A line about the last minute."""
        checker = self.checker
        now = Counter(checker.counts)
        now["published"] = checker.ledger.published
        now["failed"] = checker.ledger.failed.total()
        lately = now - self._told
        self._told = now
        times = sorted(checker.latencies) or [0.0]
        checker.latencies.clear()
        what = ", ".join(f"{number} {name}" for name, number in sorted(lately.items()))
        at = [times[min(len(times) - 1, int(len(times) * part))] for part in (0.5, 0.99, 1.0)]
        print(
            f"{time.monotonic() - self._began:6.0f} s: {what}; "
            f"p50 {at[0] * 1000:.1f} ms, p99 {at[1] * 1000:.0f} ms, at most {at[2]:.1f} s; "
            f"workers {self._memory():.0f} MiB",
            flush=True,
        )

    def _memory(self) -> float:
        """MiB of the largest worker."""
        largest = 0
        for pid in self._workers():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/statm").read_text().split()
                largest = max(largest, int(fields[1]) * os.sysconf("SC_PAGESIZE"))
        return largest / (1 << 20)

    async def _settle(self, clients: list[Subscriber]) -> None:
        """Nobody publishes any more: all that is owed must come, and all counts must fit."""
        self.settled = True
        (self.folder / "stop").touch()
        self.quiet = True
        # Who has just left comes back, and who is asleep wakes up.
        await asyncio.sleep(9.0)
        deadline = time.monotonic() + SETTLE_SECONDS + self.checker.patience
        while time.monotonic() < deadline:
            self._look_once()
            streams = self.checker.streams.values()
            if self.checker.late(time.monotonic()) == 0 and await self._counts_fit(clients):
                break
            await asyncio.sleep(0.5)
        else:
            missing = {
                stream.name: late
                for stream in streams
                if (late := stream.wait_for(time.monotonic(), 0.0))
            }
            self.checker.violate(
                f"when all was quiet {missing} messages were still missing, or counts were wrong: "
                f"{await self._counted()} instead of {self._expected(clients)}"
            )
        self._look_once()

    def _expected(self, clients: list[Subscriber]) -> dict[str, int]:
        return dict(Counter(client.rules.topic for client in clients))

    async def _counted(self) -> dict[str, int]:
        """Return how many have subscribed to each topic, as one worker says."""
        found = {}
        http = await Http.open(self.port)
        try:
            for topic in PLAIN + KEPT:
                _, answer = await http.request("GET", f"/count/{topic}")
                found[topic] = answer["everywhere"]
        finally:
            http.close()
        return found

    async def _counts_fit(self, clients: list[Subscriber]) -> bool:
        return await self._counted() == self._expected(clients)


def soak(plan: Plan) -> Verdict:
    """Run it, tell about it, and say whether all was as it should be."""
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        environment = {
            "SOAK_FOLDER": name,
            "SOAK_RATE": str(plan.rate / plan.workers),
        }
        options: list[str] = []
        broker: Any = None
        if plan.url is not None:
            scheme, _, query = plan.url.partition("?")
            kind = RedisServer if scheme.startswith("redis") else NatsServer
            broker = stack.enter_context(kind(Path(name) / "broker"))
            options += ["--topics-url", f"{broker.url}?{query}" if query else broker.url]
        served = stack.enter_context(
            Served(
                *("asgiws", "tests.soak.app:app", "--port", "0", "--workers", str(plan.workers)),
                *("--no-access-log", "--ws-close-timeout", "10", "--drain-window", "1"),
                *("--topics-history-memory", str(plan.history)),
                *("--timeout-graceful-shutdown", "3", *options),
                deadline=ROLL_SECONDS,
                **environment,
            )
        )
        served.wait_for_count("is ready", plan.workers)
        run = Soak(plan, served, Path(name), broker)
        asyncio.run(run.run())
        code = served.stop()
        output = list(served.output)
    checker = run.checker
    run.report()
    for number, line in enumerate(output):
        if any(word in line for word in SUSPICIOUS):
            behind = "".join(output[number : number + 20])
            checker.violate(f"the server has printed {behind.rstrip()}")
    if code:
        checker.violate(f"the server has ended with {code}")
    if len(checker.epochs) > 1 and plan.url is None:
        checker.violate(f"positions of several epochs: {checker.epochs}")
    verdict = Verdict(not checker.violations, checker.violations, checker.counts, output)
    for violation in verdict.violations:
        print(f"VIOLATION: {violation}")
    print("passed" if verdict.passed else f"FAILED: {checker.counts['VIOLATIONS']} violations")
    return verdict

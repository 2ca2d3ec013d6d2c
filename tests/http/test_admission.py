"""--limit-handshakes: who begins, who waits, and who is told to come again."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

from asgiws.http.admission import MOST_SECONDS, Admission
from asgiws.process.drain import REPLACED, terms

from ..toolkit.apps import Recorder
from ..toolkit.certificates import Certificates
from ..toolkit.jumping import jumping
from ..toolkit.raw_http import Client, Reply
from ..toolkit.raw_websocket import RawWebSocket, upgrade
from ..toolkit.running import Running, running


class Crowd:
    """Those who ask an Admission, and what became of them."""

    def __init__(self, rate: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.admission = Admission(self.loop, rate)
        self.admitted: list[float] = []
        self.turned_away: list[float] = []
        self.retries: list[int] = []

    def ask(self, who: object = None) -> None:
        if self.admission.take():
            self.admitted.append(self.loop.time())
        elif not self.admission.wait(who or object(), self.turn):
            self.retries.append(self.admission.retry_after())

    def turn(self, admitted: bool) -> None:
        (self.admitted if admitted else self.turned_away).append(self.loop.time())


@jumping
async def test_no_second_begins_more_than_the_rate_and_little_more() -> None:
    crowd = Crowd(100)
    for _ in range(200):
        for _ in range(2):
            crowd.ask()
        await asyncio.sleep(0.01)
    await asyncio.sleep(5)
    assert len(crowd.admitted) + len(crowd.retries) == 400
    begun = Counter(math.floor(when) for when in crowd.admitted)
    assert max(begun.values()) <= 111
    assert min(list(begun.values())[:2]) >= 95


@jumping
async def test_a_quiet_server_lets_everybody_begin_at_once() -> None:
    crowd = Crowd(20)
    for _ in range(100):
        crowd.ask()
        await asyncio.sleep(0.06)
    assert len(crowd.admitted) == 100
    assert not crowd.retries


@jumping
async def test_the_queue_holds_what_a_second_admits_and_keeps_its_order() -> None:
    loop = asyncio.get_running_loop()
    admission = Admission(loop, 50)
    while admission.take():
        pass
    order: list[int] = []
    for number in range(50):
        assert admission.wait(number, lambda admitted, number=number: order.append(number))
    assert not admission.wait("one more", order.append)
    assert not admission.take()
    await asyncio.sleep(0.9)
    assert 40 <= len(order) < 50
    await asyncio.sleep(0.2)
    assert order == list(range(50))


@jumping
async def test_who_leaves_makes_room() -> None:
    crowd = Crowd(1)
    crowd.ask()
    crowd.ask("waits")
    crowd.ask("too much")
    assert len(crowd.retries) == 1
    assert crowd.admission.leave("waits") == crowd.turn
    assert crowd.admission.leave("waits") is None
    crowd.ask("waits too")
    await asyncio.sleep(3)
    assert len(crowd.admitted) == 2
    assert len(crowd.retries) == 1


@jumping
async def test_those_who_are_refused_come_back_one_after_the_other() -> None:
    crowd = Crowd(100)
    for _ in range(3000):
        crowd.ask()
    # Ten begin, a hundred wait, and the others come again at the rate.
    assert len(crowd.retries) == 2890
    back = Counter(crowd.retries)
    assert min(back) >= 1
    assert max(back.values()) <= 200
    assert len(back) >= 25


@jumping
async def test_nobody_is_told_to_stay_away_for_long() -> None:
    crowd = Crowd(1)
    for _ in range(5000):
        crowd.ask()
    assert max(crowd.retries) <= MOST_SECONDS
    assert max(Counter(crowd.retries).values()) < 300
    await asyncio.sleep(120)
    # What was promised has come and gone.
    crowd.ask()
    crowd.ask()
    crowd.ask()
    assert crowd.retries[-1] <= 3


@jumping
async def test_a_new_rate_holds_from_the_moment_it_is_set() -> None:
    crowd = Crowd(100)
    for _ in range(110):
        crowd.ask()
    assert len(crowd.admitted) == 10
    crowd.admission.rate = 10
    await asyncio.sleep(0)
    assert crowd.admission.rate == 10
    # The queue of a second is shorter now: the last ones are turned away.
    assert len(crowd.turned_away) == 90
    await asyncio.sleep(0.55)
    assert 13 <= len(crowd.admitted) <= 17
    crowd.admission.rate = 1000
    await asyncio.sleep(0.1)
    assert len(crowd.admitted) == 20


@jumping
async def test_a_share_of_less_than_one_a_second_still_admits() -> None:
    crowd = Crowd(0.25)
    crowd.ask()
    crowd.ask()
    assert len(crowd.admitted) == 1
    await asyncio.sleep(4.1)
    assert len(crowd.admitted) == 2


class App(Recorder):
    """Accepts, and keeps the WebSocket until its end."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.note(scope["path"])
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["plain", "tls"])
def secure(request: pytest.FixtureRequest, certificates: Certificates) -> dict[str, Any]:
    if request.param == "plain":
        return {"server": {}, "client": {}}
    return {"server": certificates.options, "client": {"tls": certificates.client()}}


def waiting(server: Running) -> int:
    return len(server.server.serving.admission._waiting)


def hold(server: Running) -> None:
    """From now on nobody's turn comes, and one has room to wait."""

    def holding() -> None:
        server.server.serving.admission.rate = 0.0001
        server.server.serving.admission.take()

    server.call(holding)


def let_in(server: Running) -> None:
    server.call(lambda: setattr(server.server.serving.admission, "rate", 1000))


def until_waiting(server: Running, number: int) -> None:
    server.wait_until(lambda: waiting(server) == number)


def test_the_first_begins_the_second_waits_and_the_third_is_refused(
    loop: str, package: ModuleType, secure: dict[str, Any]
) -> None:
    app = App()
    with (
        running(app, loop, package, limit_handshakes=1, **secure["server"]) as server,
        RawWebSocket(server, target="/1", **secure["client"]),
        Client(server, **secure["client"]) as second,
        Client(server, **secure["client"]) as third,
    ):
        assert app.next() == "/1"
        hold(server)
        second.send(upgrade(target="/2"))
        until_waiting(server, 1)
        third.send(upgrade(target="/3"))
        refused: Reply = third.read()
        assert refused.status == 503
        assert 30 <= int(refused.headers["retry-after"]) <= 60
        assert third.rest() == b""
        assert app.notes.empty()
        let_in(server)
        assert second.read_head().status == 101
        assert app.next() == "/2"
        assert app.notes.empty()


def test_frames_that_come_while_it_waits_are_kept(loop: str, package: ModuleType) -> None:
    seen = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.note((await receive()).get("text"))

    with (
        running(app, loop, package, limit_handshakes=1) as server,
        RawWebSocket(server),
        Client(server) as client,
    ):
        hold(server)
        client.send(upgrade() + b"\x81\x85\0\0\0\0hello")
        until_waiting(server, 1)
        let_in(server)
        assert client.read_head().status == 101
        assert seen.next() == "hello"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_gives_up_its_place(
    how: str, loop: str, package: ModuleType, secure: dict[str, Any]
) -> None:
    app = App()
    with (
        running(app, loop, package, limit_handshakes=1, **secure["server"]) as server,
        RawWebSocket(server, target="/1", **secure["client"]),
    ):
        hold(server)
        with Client(server, **secure["client"]) as client:
            client.send(upgrade(target="/2"))
            until_waiting(server, 1)
            getattr(client, how)()
        until_waiting(server, 0)
        server.wait_until(lambda: len(server.server.serving.connections) == 1)
        let_in(server)
        with RawWebSocket(server, target="/3", **secure["client"]):
            assert [app.next(), app.next()] == ["/1", "/3"]


@pytest.mark.parametrize("window", [0.0, 0.3])
def test_a_shutdown_refuses_those_who_wait(
    window: float, loop: str, package: ModuleType, secure: dict[str, Any]
) -> None:
    app = App()
    with (
        running(app, loop, package, limit_handshakes=1, **secure["server"]) as server,
        RawWebSocket(server, target="/1", **secure["client"]),
        Client(server, **secure["client"]) as client,
    ):
        hold(server)
        client.send(upgrade(target="/2"))
        until_waiting(server, 1)
        server.server.shutdown(window=window)
        reply = client.read()
        assert (reply.status, "retry-after" in reply.headers) == (503, True)
    assert app.next() == "/1"
    assert app.notes.empty()


def test_a_worker_that_is_replaced_lets_those_who_wait_in(loop: str, package: ModuleType) -> None:
    app = App()
    with (
        running(app, loop, package, limit_handshakes=1) as server,
        RawWebSocket(server),
        Client(server) as client,
    ):
        hold(server)
        client.send(upgrade(target="/2"))
        until_waiting(server, 1)
        server.server.drain(terms(server.server.config, REPLACED))
        server.wait_until(lambda: server.server.serving.phase > 0)
        let_in(server)
        assert client.read_head().status == 101
        assert client.rest().startswith(b"\x88\x02\x03\xf4")
        client.close()


def test_no_deadline_of_http_or_of_the_handshake_runs_while_it_waits(
    loop: str, package: ModuleType
) -> None:
    options = {
        "timeout_request_head": 0.3,
        "timeout_keep_alive": 0.3,
        "ws_accept_timeout": 0.6,
        "limit_handshakes": 1,
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(0.3)
        await send({"type": "websocket.accept"})
        await receive()

    with running(app, loop, package, **options) as server, contextlib.ExitStack() as stack:
        stack.enter_context(RawWebSocket(server))
        hold(server)
        client = stack.enter_context(Client(server))
        client.send(upgrade())
        assert client.is_silent(0.9)
        let_in(server)
        assert client.read_head().status == 101


def test_http_and_handshakes_that_are_malformed_take_nothing(
    loop: str, package: ModuleType
) -> None:
    app = App()
    with running(app, loop, package, limit_handshakes=1) as server:
        for _ in range(3):
            with Client(server) as client:
                client.send(upgrade(sec_websocket_version="8"))
                assert client.read().status == 426
        with RawWebSocket(server):
            pass


def test_without_the_option_there_is_no_queue(package: ModuleType) -> None:
    app = App()
    with running(app, "asyncio", package) as server, contextlib.ExitStack() as stack:
        assert server.server.serving.admission is None
        for _ in range(20):
            stack.enter_context(RawWebSocket(server))

"""python-ocpp, client and server: charge points report to a central system, which asks back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from .conftest import InUse

pytestmark = pytest.mark.slow

TIMEOUT = 20.0


def test_charge_points_and_the_central_system_call_each_other() -> None:
    from ocpp.routing import on
    from ocpp.v16 import ChargePoint, call, call_result
    from ocpp.v16.enums import Action, DataTransferStatus, RegistrationStatus

    class Charger(ChargePoint):
        def __init__(self, name: str, connection: Any) -> None:
            super().__init__(name, connection)
            self.asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        @on(Action.data_transfer)
        def answer(self, vendor_id: str, data: str) -> call_result.DataTransfer:
            self.asked.put_nowait((vendor_id, data))
            return call_result.DataTransfer(DataTransferStatus.accepted, data.upper())

    async def charge(url: str, name: str, ready: asyncio.Barrier) -> int:
        """Report, be asked, and stay until the central system goes; its close code."""
        async with connect(f"{url}/{name}", subprotocols=["ocpp1.6"]) as socket:
            assert socket.subprotocol == "ocpp1.6"
            charger = Charger(name, socket)
            listening = asyncio.create_task(charger.start())
            boot = await charger.call(call.BootNotification(f"model {name}", "asgiws"))
            assert boot.status == RegistrationStatus.accepted
            assert await charger.asked.get() == ("asgiws", f"model {name}")
            assert await charger.asked.get() == ("echo", f"MODEL {name}".upper())
            for _ in range(20):
                beat = await charger.call(call.Heartbeat())
                assert beat.current_time
            await ready.wait()
            with pytest.raises(ConnectionClosed):
                await listening
            assert socket.close_code is not None
            return socket.close_code

    async def use(server: InUse) -> None:
        ready = asyncio.Barrier(11)
        async with asyncio.TaskGroup() as group:
            chargers = [
                group.create_task(charge(server.ws_url, f"charger-{number}", ready))
                for number in range(10)
            ]
            await ready.wait()
            await asyncio.to_thread(server.end)
        assert [task.result() for task in chargers] == [1012] * 10

    with InUse("ocpp") as server:
        asyncio.run(asyncio.wait_for(use(server), TIMEOUT))

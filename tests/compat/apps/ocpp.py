"""python-ocpp: a central system for charge points, which speak OCPP 1.6 to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ocpp.routing import after, on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.enums import Action, RegistrationStatus
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


class Central(ChargePoint):
    """The central system's side of one charge point."""

    @on(Action.boot_notification)
    def boot(self, charge_point_vendor: str, charge_point_model: str, **_: Any) -> Any:
        return call_result.BootNotification(
            current_time=datetime.now(UTC).isoformat(),
            interval=10,
            status=RegistrationStatus.accepted,
        )

    @after(Action.boot_notification)
    async def ask_for_more(self, charge_point_model: str, **_: Any) -> None:
        """A call in the other direction, with what the charge point said."""
        answer = await self.call(call.DataTransfer(vendor_id="asgiws", data=charge_point_model))
        await self.call(call.DataTransfer(vendor_id="echo", data=answer.data))

    @on(Action.heartbeat)
    def beat(self) -> Any:
        return call_result.Heartbeat(current_time=datetime.now(UTC).isoformat())


class Connection:
    """A WebSocket with the two methods that python-ocpp calls."""

    def __init__(self, socket: WebSocket) -> None:
        self.recv = socket.receive_text
        self.send = socket.send_text


async def charge(socket: WebSocket) -> None:
    if "ocpp1.6" not in socket.scope["subprotocols"]:
        await socket.close()
        return
    await socket.accept("ocpp1.6")
    try:
        await Central(socket.path_params["name"], Connection(socket)).start()
    except WebSocketDisconnect:
        pass


app = Starlette(routes=[WebSocketRoute("/{name}", charge)])

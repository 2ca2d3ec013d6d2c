"""A program for FastHTML: ``python fasthtml_page.py``, on the port in the variable PORT."""

from __future__ import annotations

from typing import Any

from fasthtml.common import Button, Div, Script, fast_app, serve

# htmx would come from another host.
SCRIPT = """
const socket = new WebSocket(`ws://${location.host}/ws`)
press.onclick = () => socket.send(JSON.stringify({}))
socket.onopen = () => { press.textContent = "press" }
socket.onmessage = (event) => { pressed.outerHTML = event.data }
"""

# Without a key FastHTML writes one to a file in the working directory.
app, rt = fast_app(default_hdrs=False, secret_key="of a test")
presses = 0


@rt("/")
def index() -> Any:
    return Div(Button("connecting", id="press"), Div("no", id="pressed"), Script(SCRIPT))


@app.ws("/ws")
async def ws(send) -> None:  # type: ignore[no-untyped-def]  # FastHTML goes by the name
    global presses
    presses += 1
    await send(Div(f"pressed {presses}", id="pressed"))


serve()

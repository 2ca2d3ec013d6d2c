"""NiceGUI: what one window's buttons do on the server, and what the server does by itself."""

from __future__ import annotations

from fastapi import FastAPI
from nicegui import ui


@ui.page("/")
def page() -> None:
    state = {"presses": 0, "ticks": 0, "name": ""}

    def press() -> None:
        state["presses"] += 1
        pressed.set_text(f"{state['name']} pressed {state['presses']}")

    def tick() -> None:
        state["ticks"] += 1
        ticked.set_text(f"tick {state['ticks']}")

    ui.input("name").bind_value(state, "name")
    ui.button("press", on_click=press).props("id=press")
    pressed = ui.label().props("id=pressed")
    ticked = ui.label().props("id=ticked")
    ui.timer(0.1, tick)


app = FastAPI()
ui.run_with(app)

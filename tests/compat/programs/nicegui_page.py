"""A program for NiceGUI, as its own pages have it: ``python nicegui_page.py PORT``."""

from __future__ import annotations

import sys

from nicegui import ui


@ui.page("/")
def page() -> None:
    presses = [0]

    def press() -> None:
        presses[0] += 1
        pressed.set_text(f"pressed {presses[0]}")

    ui.button("press", on_click=press).props("id=press")
    pressed = ui.label().props("id=pressed")


if __name__ in {"__main__", "__mp_main__"}:
    ui.run(port=int(sys.argv[1]), show=False)

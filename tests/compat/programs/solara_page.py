"""A component for ``solara run``."""

from __future__ import annotations

import solara

pressed = solara.reactive(0)


@solara.component
def Page() -> None:
    def press() -> None:
        pressed.value += 1

    solara.Button("press", on_click=press, classes=["press"])
    solara.Text(f"pressed {pressed.value}")

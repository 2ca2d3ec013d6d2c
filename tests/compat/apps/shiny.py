"""Shiny: an output that follows its inputs, and one that follows a clock on the server."""

from __future__ import annotations

from shiny import App, Inputs, Outputs, Session, reactive, render, ui

page = ui.page_fluid(
    ui.input_text("name", "name"),
    ui.input_action_button("press", "press"),
    ui.output_text("pressed"),
    ui.output_text("ticked"),
)


def server(input: Inputs, output: Outputs, session: Session) -> None:
    ticks = 0

    @render.text
    def pressed() -> str:
        return f"{input.name()} pressed {input.press()}"

    @render.text
    def ticked() -> str:
        nonlocal ticks
        reactive.invalidate_later(0.1)
        ticks += 1
        return f"tick {ticks}"


app = App(page, server)

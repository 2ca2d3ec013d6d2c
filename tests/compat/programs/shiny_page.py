"""An application for ``shiny run``."""

from __future__ import annotations

from shiny import App, Inputs, Outputs, Session, render, ui


def server(input: Inputs, output: Outputs, session: Session) -> None:
    @render.text
    def pressed() -> str:
        return f"pressed {input.press()}"


app = App(
    ui.page_fluid(ui.input_action_button("press", "press"), ui.output_text("pressed")), server
)

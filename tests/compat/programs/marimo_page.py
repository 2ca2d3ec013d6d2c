"""A notebook for ``marimo run``."""

import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    press = mo.ui.button(value=0, on_click=lambda value: value + 1, label="press")
    press  # noqa: B018  # what a cell shows
    return mo, press


@app.cell
def _(mo, press):
    mo.md(f"pressed {press.value}")


if __name__ == "__main__":
    app.run()

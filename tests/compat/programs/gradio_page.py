"""A program for Gradio: ``python gradio_page.py PORT``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gradio


def press() -> Iterator[str]:
    for number in (1, 2, 3):
        yield f"pressed {number}"


with gradio.Blocks() as page:
    pressed = gradio.Markdown(elem_id="pressed")
    gradio.Button("press", elem_id="press").click(press, None, pressed)

if __name__ == "__main__":
    page.launch(server_port=int(sys.argv[1]), quiet=True)

"""Gradio: a function, one that streams its result, and one that streams while a page is open.

``State`` makes each page hold a second stream, the heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import gradio
from fastapi import FastAPI


def greet(name: str) -> str:
    return f"Hello, {name}!"


def count(name: str) -> Iterator[str]:
    for number in range(1, 6):
        yield f"{name} {number}"


async def clock() -> AsyncIterator[str]:
    ticks = 0
    while True:
        ticks += 1
        yield f"tick {ticks}"
        await asyncio.sleep(0.1)


# Fonts of the machine: the default theme fetches some of the internet's.
theme = gradio.themes.Base(font=["sans-serif"], font_mono=["monospace"])

with gradio.Blocks(title="greeter") as demo:
    who = gradio.Textbox(label="who", elem_id="who")
    said = gradio.Markdown(elem_id="said")
    ticked = gradio.Markdown(elem_id="ticked")
    gradio.State()
    gradio.Button("greet", elem_id="greet").click(greet, who, said, api_name="greet")
    gradio.Button("count", elem_id="count").click(count, who, said, api_name="count")
    demo.load(clock, None, ticked, api_name=False)

app = gradio.mount_gradio_app(FastAPI(), demo, path="", theme=theme)

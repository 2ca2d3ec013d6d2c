"""Gradio, NiceGUI and Shiny in Chromium: what is clicked changes on the server and shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..browser.chromium import Window
from .conftest import InUse

pytestmark = pytest.mark.slow

Visit = Callable[[str], Window]


def test_gradio_answers_browsers_and_its_own_client_and_ends_while_they_are_connected(
    visit: Visit, tmp_path: Path
) -> None:
    import gradio_client

    with InUse("gradio", GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(tmp_path)) as server:
        window = visit(server.url)
        window.see("#ticked", "tick")
        window.see("#who textarea").send_keys("Ada")
        window.find("#greet").click()
        window.see("#said", "Hello, Ada!")
        window.find("#count").click()
        window.see("#said", "Ada 5")

        client = gradio_client.Client(server.url, verbose=False, analytics_enabled=False)
        assert client.predict("Grace", api_name="/greet") == "Hello, Grace!"
        job = client.submit("Grace", api_name="/count")
        assert job.result(timeout=20) == "Grace 5"
        assert job.outputs() == [f"Grace {number}" for number in range(1, 6)]
        server.end()
        client.close()


def test_nicegui_has_a_state_for_each_window_and_ends_while_they_are_open(visit: Visit) -> None:
    with InUse("nicegui") as server:
        windows = [visit(server.url), visit(server.url)]
        for window, name in zip(windows, ("Ada", "Grace"), strict=True):
            window.see("#ticked", "tick")
            window.find("input[aria-label=name]").send_keys(name)
            window.find("#press").click()
            window.see("#pressed", f"{name} pressed 1")
        windows[0].find("#press").click()
        windows[0].see("#pressed", "Ada pressed 2")
        server.end()


def test_shiny_has_a_session_for_each_window_and_ends_while_they_are_open(visit: Visit) -> None:
    with InUse("shiny") as server:
        windows = [visit(server.url), visit(server.url)]
        for window, name in zip(windows, ("Ada", "Grace"), strict=True):
            window.see("#ticked", "tick")
            window.find("#name").send_keys(name)
            window.find("#press").click()
            window.see("#pressed", f"{name} pressed 1")
        windows[0].find("#press").click()
        windows[0].see("#pressed", "Ada pressed 2")
        server.end()

"""The example served, and windows of one Chromium to visit it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from selenium.webdriver import Chrome

from ..toolkit.served import Served, serve_example
from .chromium import Visitor, chromium, complaints

Visit = Callable[[str], Visitor]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def server() -> Iterator[Served]:
    with serve_example() as served:
        yield served


@pytest.fixture
def visit(browser: Chrome, server: Served) -> Iterator[Visit]:
    """`visit("Ada")` opens a window in which Ada is in the lobby."""
    first = browser.current_window_handle
    yield lambda name: Visitor(browser, server.url, name)
    found = []
    for window in browser.window_handles:
        if window != first:
            browser.switch_to.window(window)
            found += complaints(browser)
            browser.close()
    browser.switch_to.window(first)
    assert found == []

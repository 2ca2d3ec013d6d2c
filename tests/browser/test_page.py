"""The page for everybody: by keyboard, on a telephone, without a network, read aloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver import ActionChains, Chrome, Keys

from ..toolkit.npm import npm_install
from ..toolkit.served import Served, serve_example
from .chromium import png
from .conftest import Visit

pytestmark = pytest.mark.slow

DESK, TELEPHONE = (1200, 870), (390, 844)
ROOMS = ["lobby", "workshop", "booth", "vault"]

# The contrast of what an element's text is drawn with, and the ground under it.
CONTRAST = """
const [element, pseudo] = arguments;
const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function pixel(...colours) {
  context.clearRect(0, 0, 1, 1);
  for (const colour of colours) {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
  }
  return context.getImageData(0, 0, 1, 1).data;
}
function luminance(colour) {
  const [r, g, b] = [...colour].map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const grounds = [];
for (let at = element; at; at = at.parentElement) {
  grounds.unshift(getComputedStyle(at).backgroundColor);
}
const ink = getComputedStyle(element, pseudo).color;
const lights = [luminance(pixel(...grounds)), luminance(pixel(...grounds, ink))];
return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
"""


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which looks for what keeps people out of a page."""
    directory = tmp_path_factory.mktemp("axe")
    npm_install(directory, "axe-core@4.14.1")
    return (directory / "node_modules" / "axe-core" / "axe.min.js").read_text()


def show(browser: Chrome, theme: str = "light", size: tuple[int, int] = DESK) -> None:
    """Show the window that was used last in this theme and size."""
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def set_network(browser: Chrome, on: bool) -> None:
    conditions = {"offline": not on, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)


def press(browser: Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def focused(browser: Chrome) -> str:
    """What the focus is on: an id, or the target of a link."""
    element = browser.switch_to.active_element
    return element.get_attribute("id") or element.get_attribute("hash") or element.tag_name


def settle(browser: Chrome) -> None:
    """Let animations be over."""
    browser.execute_script("for (const each of document.getAnimations()) each.finish()")


# --- By keyboard -------------------------------------------------------------------------


def test_a_room_chosen_by_keyboard_takes_the_focus_to_the_message_field(
    visit: Visit, browser: Chrome
) -> None:
    ada = visit("Ada")
    assert focused(browser) == "text"
    ada.see('#rooms a[href="#lobby"]')
    ada.focus('#rooms a[href="#lobby"]')
    press(browser, Keys.TAB)
    assert focused(browser) == "#workshop"
    press(browser, Keys.ENTER)
    ada.see("#room-title", "Workshop")
    ada.see("#state", "online")
    assert focused(browser) == "text"
    press(browser, "Hello", Keys.ENTER)
    ada.see(".message.mine", "Hello")


def test_the_list_of_rooms_changes_in_place(visit: Visit, browser: Chrome) -> None:
    ada = visit("Ada")
    show(browser, size=(1200, 260))  # so low that the list has to be scrolled
    lobby = ada.see('#rooms a[href="#lobby"]', "1/20")
    ada.focus('#rooms a[href="#vault"]')
    scrolled = browser.execute_script(
        "const nav = document.querySelector('nav'); nav.scrollTop = 9; return nav.scrollTop"
    )
    assert scrolled == 9
    grace = visit("Grace")
    assert ada.see('#rooms a[href="#lobby"]', "2/20") == lobby
    assert focused(browser) == "#vault"
    assert browser.execute_script("return document.querySelector('nav').scrollTop") == 9
    grace.go_to("workshop")
    ada.see('#rooms a[href="#lobby"]', "1/20")
    assert focused(browser) == "#vault"


def test_a_connection_that_ends_and_comes_back_leaves_the_focus_where_it_was(
    visit: Visit, browser: Chrome, server: Served
) -> None:
    ada = visit("Ada")
    ada.focus("#send")
    server.stop()
    ada.see("#state", "offline")
    assert focused(browser) == "send"
    ada.focus("#retry")
    with serve_example(port=server.port):
        press(browser, Keys.ENTER)
        ada.see("#state", "online")
        # The button that had it is gone.
        assert focused(browser) == "text"


# --- On a telephone ----------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 320])
def test_every_room_can_be_reached_on_a_narrow_screen(
    visit: Visit, browser: Chrome, width: int
) -> None:
    ada = visit("Ada")
    show(browser, size=(width, 700))
    for room in ROOMS:
        link = ada.see(f'#rooms a[href="#{room}"]')
        # Nothing of it is outside, and nothing lies over it.
        assert browser.execute_script(
            """
            const { left, right, top, bottom } = arguments[0].getBoundingClientRect();
            const [x, y] = [(left + right) / 2, (top + bottom) / 2];
            const points = [[left + 1, y], [right - 1, y], [x, top + 1], [x, bottom - 1]];
            return points.every((at) => arguments[0].contains(document.elementFromPoint(...at)));
            """,
            link,
        ), room
        ada.go_to(room)
    ada.go_to("lobby")
    ada.see("#state", "online")
    for text in ("one", "two", "three") * 5:
        ada.say(text)  # more than fit: the messages are scrolled, never the page
    ada.see(".message.mine:nth-last-child(2)", "two")
    whole = "const page = document.documentElement; return [page.scrollWidth, page.scrollHeight]"
    assert browser.execute_script(whole) == [width, 700]


# --- Without a network -------------------------------------------------------------------


def test_without_a_network_the_page_says_so_and_counts_down_to_the_next_try(
    visit: Visit, browser: Chrome
) -> None:
    ada = visit("Ada")
    ada.say("Before")
    ada.see(".message.mine", "Before")
    set_network(browser, on=False)
    ada.see("#state", "offline")
    ada.see("#notice", "This device is offline.")
    # The pauses double: sooner or later one is long enough to be seen counting.
    for seconds in (3, 2, 1):
        ada.see("#notice", f"This device is offline. Next try in {seconds} s.")
    set_network(browser, on=True)
    ada.see("#state", "online")
    assert not ada.find("#notice").is_displayed()
    assert ada.texts(".message .text") == ["Before"]


def test_a_server_that_does_not_answer_is_told_from_a_network_that_is_gone(
    visit: Visit, server: Served
) -> None:
    ada = visit("Ada")
    server.stop()
    ada.see("#log", "Connection closed: 1012")
    for seconds in (2, 1):
        ada.see("#notice", f"The server does not answer. Next try in {seconds} s.")


# --- Read aloud, and by those who see badly ----------------------------------------------


@pytest.mark.parametrize("size", [DESK, TELEPHONE])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(
    visit: Visit,
    browser: Chrome,
    server: Served,
    axe: str,
    tmp_path: Path,
    theme: str,
    size: tuple[int, int],
) -> None:
    ada, grace = visit("Ada"), visit("Grace")
    (tmp_path / "picture.png").write_bytes(png(200, 90))
    ada.say("Have you seen the sunset?")
    ada.see(".mine", "sunset")
    ada.say("Yesterday.")
    ada.see(".mine", "Yesterday.")
    grace.show(tmp_path / "picture.png")
    grace.see_picture("Grace")
    message = {"name": "build bot", "text": "Ready to deploy."}
    httpx.post(f"{server.url}/rooms/lobby/messages", json=message).raise_for_status()
    ada.see(".message", "Ready to deploy.")
    ada.see_picture("Grace")
    show(browser, theme, size)

    def look() -> None:
        settle(browser)
        browser.execute_script(axe)
        report = browser.execute_async_script("axe.run().then(arguments[0])")
        # What axe cannot decide is not fine either.
        found = [
            (each["id"], node["target"], node["failureSummary"])
            for each in report["violations"] + report["incomplete"]
            for node in each["nodes"]
        ]
        assert found == []
        assert len(report["passes"]) > 15
        for field in (ada.find("#name"), ada.find("#text")):
            if field.is_displayed():
                assert browser.execute_script(CONTRAST, field, "::placeholder") >= 4.5

    look()
    ada.go_to("vault")
    ada.see("#notice", "The Vault is locked.")
    look()
    server.stop()
    ada.go_to("lobby")
    ada.see("#countdown", "Next try")
    look()
    ada.find("#rename").click()
    ada.see("#welcome")
    look()


def test_a_face_of_any_colour_can_be_read(visit: Visit, browser: Chrome) -> None:
    ada = visit("Ada")
    face = ada.find("#my-avatar")
    for theme in ("light", "dark"):
        show(browser, theme)
        for hue in range(0, 360, 5):
            browser.execute_script(
                "arguments[0].style.setProperty('--hue', arguments[1])", face, hue
            )
            assert browser.execute_script(CONTRAST, face, None) >= 4.5, (theme, hue)


def test_a_screen_reader_is_told_what_there_is_and_what_changes(
    visit: Visit, browser: Chrome, server: Served
) -> None:
    ada = visit("Ada")
    ada.say("Hello")
    ada.see(".message.mine", "Hello")
    ada.see('#rooms a[href="#lobby"]', "1/20")
    ways = ("link", "button", "textbox", "heading", "navigation", "log", "main")
    assert [(role, name) for role, name, _ in read_aloud(browser) if role in ways] == [
        ("navigation", "Rooms"),
        ("link", "Lobby 1 of 20 seats taken"),
        ("link", "Workshop 0 of 20 seats taken"),
        ("link", "Phone booth 0 of 2 seats taken"),
        ("link", "Vault locked"),
        ("button", "Change your name"),
        ("main", ""),
        ("heading", "Lobby"),
        ("log", "Messages"),
        ("button", "Send a picture"),
        ("textbox", "Message to Lobby"),
        ("button", "Send"),
    ]
    server.stop()
    ada.see("#countdown", "Next try")
    changes = {role: live for role, _, live in read_aloud(browser) if live}
    assert changes == {"log": "polite", "status": "polite", "alert": "assertive"}


def read_aloud(browser: Chrome) -> Iterator[tuple[str, str, str]]:
    """What a screen reader comes by, in its order: role, name, and how a change is told."""
    listed = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nodes: dict[str, Any] = {node["nodeId"]: node for node in listed}
    left = [listed[0]["nodeId"]]
    while left:
        node = nodes[left.pop()]
        left += reversed(node["childIds"])
        if not node["ignored"] and node["role"]["value"] not in ("generic", "InlineTextBox"):
            live = [each["value"]["value"] for each in node["properties"] if each["name"] == "live"]
            yield node["role"]["value"], node["name"]["value"], "".join(live)

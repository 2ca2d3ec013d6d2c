"""A real Chromium, and what one person sees and does in one of its windows."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import sin
from pathlib import Path
from zlib import compress, crc32

from selenium.common import (
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
DEADLINE = 20.0  # seconds for anything the page is expected to show


def program(*names: str) -> str:
    """The first of these programs that is installed. A missing one is a failure, never a skip."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise AssertionError(
        f"{names[0]} is not installed, and the browser test needs it. "
        "On Debian: apt-get install chromium chromium-driver"
    )


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """A headless Chromium; `profile` is a new, empty directory."""
    options = ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Window:
    """One window of the browser, and what is seen in it."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        driver.switch_to.new_window("window")
        self.window = driver.current_window_handle
        driver.get(url)

    def find(self, selector: str) -> WebElement:
        self.driver.switch_to.window(self.window)
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def see(self, selector: str, text: str = "") -> WebElement:
        """Wait until an element is visible and has this text in it."""

        def visible(driver: Chrome) -> WebElement | None:
            for element in driver.find_elements(By.CSS_SELECTOR, selector):
                if element.is_displayed() and text in element.text:
                    return element
            return None

        self.driver.switch_to.window(self.window)
        try:
            # A reload takes elements away between finding them and looking at them.
            return WebDriverWait(
                self.driver,
                DEADLINE,
                poll_frequency=0.05,
                ignored_exceptions=(StaleElementReferenceException, NoSuchElementException),
            ).until(visible)
        except TimeoutException:
            page = self.find("body").text
            raise AssertionError(f"no {selector} with {text!r}; the page says:\n{page}") from None

    def texts(self, selector: str) -> list[str]:
        self.driver.switch_to.window(self.window)
        return [found.text for found in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def focus(self, selector: str) -> None:
        self.driver.execute_script("arguments[0].focus()", self.find(selector))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        WebDriverWait(self.driver, DEADLINE, poll_frequency=0.05).until(lambda _: condition())

    def reload(self) -> None:
        self.driver.switch_to.window(self.window)
        self.driver.refresh()


class Visitor(Window):
    """One person with the chat open in a window of their own."""

    def __init__(self, driver: Chrome, url: str, name: str) -> None:
        super().__init__(driver, url)
        self.find("#name").send_keys(name + Keys.ENTER)
        self.see("#state", "online")

    def say(self, text: str) -> None:
        self.find("#text").send_keys(text + Keys.ENTER)

    def try_to_say(self, text: str) -> bool:
        """Type it and press Enter at once; whether the page has taken it."""
        script = """
            const field = document.getElementById("text");
            field.value = arguments[0];
            field.form.requestSubmit();
            const taken = !field.value;
            field.value = "";
            return taken;
        """
        self.driver.switch_to.window(self.window)
        return bool(self.driver.execute_script(script, text))

    def show(self, picture: Path) -> None:
        self.find("#picture").send_keys(str(picture))

    def see_picture(self, author: str) -> tuple[int, int]:
        """Wait for a picture; its width and height once the browser has decoded it."""
        picture = self.see(f'img.picture[alt="A picture from {author}"]')
        WebDriverWait(self.driver, DEADLINE, poll_frequency=0.05).until(
            lambda driver: driver.execute_script("return arguments[0].naturalWidth", picture)
        )
        size = "return [arguments[0].naturalWidth, arguments[0].naturalHeight]"
        width, height = self.driver.execute_script(size, picture)
        return width, height

    def go_to(self, room: str) -> None:
        self.see(f'#rooms a[href="#{room}"]').click()
        self.see(f'#rooms a[href="#{room}"][aria-current="page"]')


def complaints(driver: Chrome) -> list[str]:
    """What scripts and the content security policy complained of since the last call."""
    return [
        entry["message"]
        for entry in driver.get_log("browser")
        if entry["source"] not in ("network", "console-api")
    ]


def png(width: int, height: int, level: int = 9) -> bytes:
    """A picture: the sun goes down behind a hill. `level` is zlib's, 0 makes a large file."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)  # no filter
        sky = (255 - 80 * y // height, 185 - 90 * y // height, 110 + 70 * y // height)
        for x in range(width):
            if y > height * (0.72 - 0.12 * sin(3.5 * x / width)):
                rows += bytes((70, 60, 120))
            elif (x - width * 0.68) ** 2 + (y - height * 0.6) ** 2 < (height * 0.22) ** 2:
                rows += bytes((255, 232, 160))
            else:
                rows += bytes(sky)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", compress(bytes(rows), level))
        + chunk(b"IEND", b"")
    )

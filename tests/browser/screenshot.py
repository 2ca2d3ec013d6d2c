"""Take the picture of the README again: ``python -m tests.browser.screenshot``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx

from ..toolkit.served import ROOT, serve_example
from .chromium import Visitor, chromium, png

TARGET = ROOT / "docs" / "images" / "chat.png"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve_example() as server,
        chromium(Path(scratch, "profile")) as driver,
    ):
        sunset = Path(scratch, "sunset.png")
        sunset.write_bytes(png(420, 190))
        ada, grace = (Visitor(driver, server.url, name) for name in ("Ada", "Grace"))
        Visitor(driver, server.url, "Linus")
        ada.see("#log", "Linus came in")
        ada.say("Good morning! Who has seen the sunset yesterday?")
        grace.see("#log", "Good morning!")
        grace.say("I have. Wait, one binary message:")
        grace.see(".mine", "one binary message")
        grace.show(sunset)
        ada.see_picture("Grace")
        message = {"name": "build bot", "text": "All green. Ready to deploy."}
        httpx.post(f"{server.url}/rooms/lobby/messages", json=message).raise_for_status()
        ada.see("#log", "All green.")
        ada.say("Then I restart the server.")
        ada.see(".mine", "Then I restart the server.")
        ada.say("You will see close code 1012, and be back by yourselves.")
        ada.see(".mine", "You will see close code 1012")
        size = {"width": 1200, "height": 870, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        # Animations that came with the last message have to be over.
        driver.execute_script("for (const each of document.getAnimations()) each.finish()")
        driver.execute_script("document.activeElement.blur()")
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(TARGET))


if __name__ == "__main__":
    main()

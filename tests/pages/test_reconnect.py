"""docs/how-to/reconnect.md: the script of the page, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ..browser.chromium import Window, chromium
from ..toolkit.running import running
from ..toolkit.served import ROOT

PAGE = (ROOT / "docs" / "how-to" / "reconnect.md").read_text("utf-8")
SCRIPT = re.search(r"<!-- script: reconnect -->\n```js\n(.*?)^```$", PAGE, re.M | re.S)


class Restarting:
    """Serves a page with the script; closes the first WebSocket with 1012, the second with 1000."""

    def __init__(self, script: str) -> None:
        self.opened = 0
        self.page = f"""<!doctype html><link rel=icon href=data:,><ul id=seen></ul><script>
{script}
connect("ws://" + location.host + "/", (text) => {{
  document.querySelector("#seen").innerHTML += "<li>" + text;
}});
</script>""".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(b"content-type", b"text/html")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self.page})
            return
        await receive()
        self.opened += 1
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"connection {self.opened}"})
        await send({"type": "websocket.close", "code": 1012 if self.opened == 1 else 1000})


@pytest.mark.slow  # 3 s: a browser
def test_the_script_comes_back_after_a_restart_and_stays_away_when_it_is_done(
    tmp_path: Path,
) -> None:
    assert SCRIPT is not None
    app = Restarting(SCRIPT[1])
    with running(app) as server, chromium(tmp_path) as driver:
        window = Window(driver, f"http://127.0.0.1:{server.port}/")
        window.see("#seen", "connection 2")
        # Its longest delay after one failure is half a second.
        driver.set_script_timeout(5)
        driver.execute_async_script("setTimeout(arguments[0], 1200)")
        assert window.texts("#seen li") == ["connection 1", "connection 2"]

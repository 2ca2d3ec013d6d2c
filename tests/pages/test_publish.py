"""docs/how-to/publish.md: what needs no server of its own; the rest is in test_how_to.py."""

from __future__ import annotations

import re
from typing import Any

from asgiws import topics

from ..toolkit.served import ROOT

PAGE = (ROOT / "docs" / "how-to" / "publish.md").read_text("utf-8")


async def test_a_thread_of_anyio_publishes() -> None:
    found = re.findall(r"<!-- snippet: publish-anyio -->\n```python\n(.*?)^```$", PAGE, re.M | re.S)
    names: dict[str, Any] = {"__name__": "anyio"}
    exec(compile(found[0], "<snippet publish-anyio>", "exec"), names)
    with topics.recording() as recording:
        async with topics.listen("news"):
            assert await names["main"]() == 1
    assert [message.data for message in recording.published] == ["hello"]

"""docs/how-to/metrics.md: the program of the page, and what it counts."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from ..deploy.pages import file, put, text, typed
from ..test_docs import snippets
from ..toolkit.served import Served

PAGE = "how-to/metrics"


def numbers(server: Served) -> dict[str, float]:
    """All samples, by their names and labels."""
    found = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(found)
        for sample in family.samples
    }


@pytest.mark.slow  # 3 s: a server in a process of its own
def test_one_process_counts_what_happens(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(snippets()["metrics"], "utf-8")
    with Served("asgiws", "main:app", "--port", "0", cwd=tmp_path) as server:
        url = f"ws://127.0.0.1:{server.port}/rooms/a"
        assert numbers(server)["topics_healthy"] == 1  # from the first moment on
        with connect(url) as ada, connect(url) as bob:
            for one in (ada, bob):
                assert one.recv(5) == "welcome"
            server.wait_until(lambda: numbers(server)["topic_subscriptions"] == 2)
            ada.send("hello")
            assert ada.recv(5) == bob.recv(5) == "hello"
            now = numbers(server)
            assert now["websockets_open"] == 2
            assert now["websocket_messages_total in"] == 1
            assert now["websocket_messages_total out"] == 2
            assert now["websocket_send_seconds_count"] == 2
            server.wait_until(lambda: numbers(server)["topic_messages_total delivered"] == 2)
            bob.close(4321)
        server.wait_until(lambda: numbers(server)["websockets_open"] == 0)
        server.wait_until(lambda: "websockets_ended_total client 1000" in numbers(server))
        now = numbers(server)
        assert now["websockets_ended_total client own"] == 1
        assert now["topics_healthy"] == 1
        assert now["event_loop_delay_seconds_count"] > 0
        assert httpx.get(f"http://127.0.0.1:{server.port}/nothing").status_code == 404
        assert numbers(server)["http_requests_total 404"] == 1
        assert server.stop() == 0
        assert not server.lines("ERROR|Traceback"), server.output


@pytest.mark.slow  # 6 s: several
def test_several_workers_are_counted_together_also_after_one_was_killed(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(snippets()["metrics"], "utf-8")
    *lines, command = typed(PAGE, "workers").splitlines()
    directory = tmp_path / "metrics"
    script = put("\n".join(lines), "/tmp/chat-metrics", str(directory))
    directory.mkdir()
    (directory / "gauge_livesum_1.db").write_bytes(b"left from before")
    subprocess.run(["sh", "-ec", script], check=True)
    assert not list(directory.iterdir())
    words = command.split()
    told = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with (
        Served(*words, "--port", "0", cwd=tmp_path, **told) as server,
        contextlib.ExitStack() as stack,
    ):
        url = f"ws://127.0.0.1:{server.port}/rooms/a"
        sockets = [stack.enter_context(connect(url)) for _ in range(8)]
        for one in sockets:
            assert one.recv(5) == "welcome"
        server.wait_until(lambda: numbers(server)["topic_subscriptions"] == 8)
        assert numbers(server)["websockets_open"] == 8
        sockets[0].send("hello")
        for one in sockets:
            assert one.recv(5) == "hello"
        server.wait_until(lambda: numbers(server)["topic_messages_total delivered"] == 8)
        victim = server.children("process.worker")[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_until(lambda: numbers(server)["websockets_open"] == 6)
        assert numbers(server)["websocket_messages_total out"] == 8  # those of the dead one too
        assert not list(directory.glob(f"gauge_live*_{victim}.db"))
        stack.close()
        server.wait_until(lambda: numbers(server)["websockets_open"] == 0)
        assert server.stop() == 0
        assert not server.lines("Traceback"), server.output


def test_what_is_on_the_page_beside_the_program() -> None:
    (job,) = yaml.safe_load(file(PAGE, "prometheus.yml"))["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert f"--bind {target}" in text(PAGE)
    code = snippets()["metrics"]
    made = dict(re.findall(r' = (Gauge|Counter|Histogram)\(\s*"(\w+)"', code))
    assert set(made) == {"Gauge", "Counter", "Histogram"}
    names = set()
    for kind, name in re.findall(r' = (Gauge|Counter|Histogram)\(\s*"(\w+)"', code):
        ends = {"Gauge": [""], "Counter": ["_total"], "Histogram": ["_sum", "_bucket"]}[kind]
        names |= {name + end for end in ends}
    table = text(PAGE).partition("## What to look at")[2].partition("\n- ")[0]
    used = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", table)) - {"histogram_quantile"}
    assert len(used) > 6
    assert used <= names

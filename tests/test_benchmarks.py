"""The load generator against a real server: it counts right answers and objects to wrong ones."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import environment, instructions, measure, modules, plots, report
from benchmarks.__main__ import description
from benchmarks.environment import build_floor, build_load
from benchmarks.fleet import report as fleet_report
from benchmarks.fleet.clients import Load
from benchmarks.measure import Sample
from benchmarks.report import summarise
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import SERVERS
from benchmarks.topics import report as topics_report

from .toolkit.served import ROOT, Served


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert shutil.which("cc"), "the load generator needs a C compiler"
    return build_load(tmp_path_factory.mktemp("load") / "load")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    directory = str(ROOT / "benchmarks")
    with Served("asgiws", "apps:raw", "--app-dir", directory, "--port", "0") as server:
        yield server.port


def run(load: Path, port: int, arguments: str, slice_ms: int = 40) -> dict[str, Any]:
    command = [str(load), *arguments.split(), "--port", str(port), "--slices", "1"]
    command += ["--slice-ms", str(slice_ms), "--warmup-ms", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    "arguments",
    [
        "echo --connections 4 --inflight 4 --size 125",
        "echo --connections 2 --size 70000 --binary",
        "echo --connections 2 --size 1024 --json --deflate",
        "push --path /push",
        "flood --path /flood --size 125",
        "broadcast --path /broadcast --connections 5 --size 125",
        "broadcast --path /broadcast --connections 5 --size 125 --batch 64",
        "publish --path /broadcast --connections 5 --size 125 --rate 500",
        "handshake --connections 3 --browser",
        "slow --connections 3 --size 125",
        "rate --connections 3 --rate 1000 --size 125",
        "hello --path /hello --connections 2",
        "post --path /post --connections 2 --size 10240",
        "download --path /download --connections 1 --size 1048576",
        "fresh --path /hello --connections 3",
        "requests --path /hello --connections 3 --rate 1000",
    ],
)
def test_right_answers_are_counted(load: Path, port: int, arguments: str) -> None:
    result = run(load, port, arguments)
    assert (result["errors"], result["losses"]) == (0, 0), result["first_error"]
    assert result["near"]["units"] > 0


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        ("starlette", "download --path /file-64k --connections 2 --size 65536"),
        ("fastapi", "hello --path /json --connections 2 --json"),
    ],
)
def test_right_answers_of_a_framework_are_counted(load: Path, app: str, arguments: str) -> None:
    directory = str(ROOT / "benchmarks")
    command = ("asgiws", f"frameworks:{app}", "--app-dir", directory, "--port", "0", "--pathsend")
    with Served(*command) as server:
        result = run(load, server.port, arguments)
    assert (result["errors"], result["losses"]) == (0, 0), result["first_error"]
    assert result["near"]["units"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        "broadcast --path /chat --connections 6 --groups 3 --size 125",
        "broadcast --path /chat --connections 6 --size 1024 --json --deflate --no-context",
        "publish --path /chat --connections 6 --groups 3 --size 125 --rate 500",
        "publish --path /chat --connections 6 --size 125 --rate 500 --stuck",
        "idle --path /held/3 --connections 4",
    ],
)
def test_topics_reach_all_who_have_subscribed(load: Path, arguments: str) -> None:
    directory = str(ROOT / "benchmarks")
    greeted = "" if arguments.startswith("idle") else " --greeted"
    with Served("asgiws", "topics.apps:topics", "--app-dir", directory, "--port", "0") as server:
        result = run(load, server.port, arguments + greeted)
    assert (result["errors"], result["losses"]) == (0, 0), result["first_error"]
    if greeted:
        part = result.get("near") or result["far"]
        assert part["units"] > 0
        assert part["last_delivery_us"]["max"] >= part["latency_us"]["p50"]


def test_the_page_about_topics_tells_ratios_within_a_round_and_what_was_refused() -> None:
    def row(kind: str, way: str, round: int, **figures: float) -> dict[str, Any]:
        found = {"cpu_us": cost, "per_second": 1.0} if (cost := figures.get("cost")) else None
        return {"kind": kind, "way": way, "round": round} | (
            {"near": found} if found else {"refused": "answers lost"}
        )

    rows = [
        row("500", "asgiws.topics", 0, cost=4.0),
        row("500", "other", 0, cost=8.0),
        row("500", "asgiws.topics", 1, cost=1.0),
        row("500", "other", 1, cost=6.0),
        row("500", "other", 2),
        row("500", "lossy", 0),
    ]
    found = {"date": "2026-11-28", "machine": {"cores": "2", "kernel": "Linux", "python": "3.11"}}
    page = topics_report.page(found | {"versions": {}, "worker": rows})
    assert "| asgiws.topics | 2.50 µs | 1.00 |" in page
    assert "| other | 7.00 µs | 4.00 |" in page  # the median of 2 and 6
    assert "| lossy | refused: answers lost |  |" in page
    assert "possible" not in page
    rows = [
        row("500", "asgiws.topics", 0, cost=4.0),
        row("500", topics_report.UVICORN.name, 0, cost=8.0),
        row("500", topics_report.FLOOR.name, 0, cost=2.0),
    ]
    page = topics_report.page(found | {"versions": {}, "worker": rows})
    assert "by a factor of 4.00 (500)" in page


def test_a_request_that_waits_behind_a_slow_answer_is_late(load: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, world!"

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            while client.recv(65536):
                time.sleep(0.01)
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        arguments = "requests --path /hello --connections 1 --rate 1000"
        result = run(load, listener.getsockname()[1], arguments, slice_ms=60)
        thread.join(10)
    part = result.get("near") or result["far"]
    # Sixty were due in 60 ms, and each was answered 10 ms after the one before it.
    assert part["latency_us"]["p50"] > 30_000


@pytest.fixture
def measured(
    load: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], dict[str, Any]]:
    """What the load generator says of a server in a scenario; the server is installed here."""
    monkeypatch.setattr(measure, "BIN", Path(sys.executable).parent)
    monkeypatch.setattr(measure, "LOAD", load)
    monkeypatch.setattr(measure, "WORK", tmp_path)
    monkeypatch.setitem(measure.OWN, "c-epoll", build_floor(load.parent / "c-epoll"))

    def run(scenario_name: str, server_name: str) -> dict[str, Any]:
        scenario, server = SCENARIOS[scenario_name], SERVERS[server_name]
        assert scenario.fits(server)
        core = min(os.sched_getaffinity(0))
        with measure.running(scenario, server, "raw", core) as target:
            command = measure.load_command(
                scenario, server, target, measure.Cores(), slices=1, slice_ms=40, connections=4
            )
            return measure._result(command, target)

    return run


@pytest.mark.parametrize(
    ("server", "scenario"),
    [
        *itertools.product(
            ["uvloop-tcp", "c-epoll"],
            ["echo-125-64", "echo-1m-16", "pipelined-16", "broadcast-500", "echo-125-uds"],
        ),
        ("c-websocket", "handshake"),
        ("c-websocket", "handshake-browser"),
        ("uvloop-h11", "hello"),
        ("uvloop-httptools", "hello"),
    ],
)
def test_a_floor_gives_the_right_answers(
    measured: Callable[[str, str], dict[str, Any]], scenario: str, server: str
) -> None:
    result = measured(scenario, server)
    assert (result["errors"], result["losses"]) == (0, 0), result["first_error"]
    assert result["near"]["units"] > 0


def test_the_floor_in_c_keeps_what_a_client_does_not_take_yet(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    program = build_floor(tmp_path / "c-epoll")
    sent, received = bytearray(), bytearray()
    with (
        subprocess.Popen([program, path, "echo"]) as process,
        socket.socket(socket.AF_UNIX) as client,
    ):
        try:
            assert measure._wait_until(lambda: client.connect_ex(path) == 0, 10)
            client.settimeout(10)
            while select.select([], [client], [], 0.3)[1]:  # until nobody takes any more
                sent += b"%07d," % len(sent) * 512
                client.sendall(sent[-4096:])
            assert len(sent) > 65536
            while len(received) < len(sent):
                received += client.recv(65536)
        finally:
            process.kill()
    assert received == sent


def test_every_floor_takes_part_in_what_it_can_do() -> None:
    floors = {server.name for server in SERVERS.values() if server.floor}
    http = {"uvloop-h11", "uvloop-httptools"}
    opening = {"c-websocket"}
    for name, able in (
        ("broadcast-500", floors - http - opening),
        ("push", set()),
        ("hello", http),
        ("handshake", opening | {"picows"}),
    ):
        fit = {server.name for server in SERVERS.values() if SCENARIOS[name].fits(server)}
        assert fit & floors == able


@pytest.mark.parametrize("scenario", ["echo-125-uds", "hello-uds"])
@pytest.mark.parametrize("server", ["asgiws", "uvicorn"])
def test_a_server_is_measured_over_a_unix_socket(
    measured: Callable[[str, str], dict[str, Any]], scenario: str, server: str
) -> None:
    result = measured(scenario, server)
    assert (result["errors"], result["losses"]) == (0, 0), result["first_error"]
    assert result["near"]["units"] > 0


def test_the_report_tells_both_commands_of_a_server_that_was_measured_over_both() -> None:
    scenarios = [(SCENARIOS[name], "raw") for name in ("echo-125-64", "echo-125-uds")]
    servers = [SERVERS["hypercorn"], SERVERS["picows"]]
    text = report._commands({"servers": {s.name: description(s, scenarios) for s in servers}})
    commands = re.findall(r"`(.*)`", text)
    assert commands == [
        "hypercorn apps:raw -b 127.0.0.1:PORT -k uvloop --log-level CRITICAL",
        "python floors.py picows PORT",
        "hypercorn apps:raw -b unix:PATH -k uvloop --log-level CRITICAL",
    ]


def test_zlib_ng_is_measured_where_messages_are_compressed() -> None:
    fit = [name for name in SCENARIOS if SCENARIOS[name].fits(SERVERS["asgiws-zlib-ng"])]
    assert fit == ["deflate-1k", "deflate-64k"]


def test_one_wrong_letter_is_an_error(load: Path, port: int) -> None:
    arguments = "echo --path /corrupt --connections 2 --size 125"
    result = run(load, port, arguments, slice_ms=10_000)  # it ends with the error
    assert result["errors"] == 1
    assert "message 99: wrong content" in result["first_error"]


def test_a_message_in_another_order_is_an_error(load: Path, port: int) -> None:
    result = run(load, port, "echo --path /swap --connections 1 --inflight 4 --size 125")
    assert "wrong content in the first 8 bytes" in result["first_error"]


def test_an_answer_that_never_comes_is_a_loss(load: Path, port: int) -> None:
    result = run(load, port, "echo --path /swallow --connections 1 --size 125 --patience-ms 200")
    assert result["losses"] == 1
    assert "1 answers lost" in result["first_error"]


@pytest.mark.parametrize(
    ("work", "low", "high"),
    [("pass", 0.0, 0.2), ("zeros.readinto(buffer)", 0.8, 1.0)],
    ids=["computes", "reads"],
)
def test_the_time_in_the_kernel_is_told_from_the_time_in_user_mode(
    load: Path, port: int, work: str, low: float, high: float
) -> None:
    spin = "zeros = open('/dev/zero', 'rb', buffering=0)\nbuffer = bytearray(1 << 20)\n"
    spin += f"print(flush=True)\nwhile True: {work}"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            arguments = f"echo --size 125 --pids {process.pid}"
            part = run(load, port, arguments, slice_ms=500)["near"]
        finally:
            process.kill()
    total = part["server_user_s"] + part["server_kernel_s"]
    assert total == pytest.approx(part["server_cpu_s"], abs=0.1)
    assert low <= part["server_kernel_s"] / total <= high


def page(*samples: Sample) -> str:
    return report.page(results("it", *samples), [])


def results(command: str, *samples: Sample) -> dict[str, Any]:
    return {
        "name": command,
        "date": "today",
        "commands": [command],
        "rounds": 1 + max(sample.round for sample in samples),
        "shared": False,
        "machine": {"python": "3.11", "commit": "abc"},
        "versions": {"uvicorn": "1.0"},
        "servers": {s.server: {"command": s.server, "note": ""} for s in samples},
        "samples": [sample.to_json() for sample in samples],
    }


def sample(
    server: str, round: int, placement: str, cpu: float, refused: str = "", scenario: str = "push"
) -> Sample:
    return Sample(server, scenario, "raw", round, placement, cpu, refused=refused)


def test_several_runs_are_reported_as_one_with_more_rounds() -> None:
    first = results("a", sample("uvicorn", 0, "near", 10.0), sample("asgiws", 0, "near", 5.0))
    second = results(
        "b",
        sample("uvicorn", 0, "near", 30.0),
        sample("asgiws", 0, "near", 10.0),
        sample("uvicorn", 1, "near", 30.0, scenario="flood"),
        sample("granian", 1, "near", 60.0, scenario="flood"),
    )
    merged = report.merge([first, second, report.merge([first])])
    table = summarise(Sample(**sample) for sample in merged["samples"])
    assert table["push", "raw"]["asgiws"].ratios == [2.0, 3.0, 2.0]
    assert table["flood", "raw"]["granian"].ratios == [0.5]
    text = report.page(merged, [])
    assert "\n- `a`\n- `b`\n" in text
    assert "| rounds | 1 + 2 + 1 |" in text
    assert all(f"| `{name}` |" in text for name in ("uvicorn", "asgiws", "granian"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("machine", "commit"), ("machine", "kernel"), ("versions", "uvicorn")],
)
def test_runs_that_differ_are_not_reported_as_one(kind: str, name: str) -> None:
    first = results("a", sample("uvicorn", 0, "near", 10.0))
    second = results("b", sample("uvicorn", 0, "near", 10.0))
    second[kind][name] = "other"
    with pytest.raises(ValueError, match=f"differ in {name}: .* and other"):
        report.merge([first, second])


def test_the_results_of_an_older_run_are_reported_still() -> None:
    old = results("a", sample("uvicorn", 0, "near", 10.0))
    old["command"] = old.pop("commands")[0]
    del old["samples"][0]["kernel"]
    text = report.page(report.merge([old]), [])
    assert "\n- `a`\n" in text
    assert "| uvicorn | 10.0 |" in text


def test_the_machine_names_the_congestion_control() -> None:
    control = environment.machine()["TCP congestion control"]
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    assert control in available


def test_the_report_tells_the_share_of_the_kernel_and_compares_what_is_left() -> None:
    text = page(
        Sample("uvicorn", "push", "raw", 0, placement="near", cpu_us=20.0, kernel=0.5),
        Sample("uvicorn", "push", "raw", 1, placement="near", cpu_us=20.0),  # it cannot be told
        Sample("daphne", "push", "raw", 2, placement="near", cpu_us=40.0, kernel=0.5),
        Sample("asgiws", "push", "raw", 0, placement="near", cpu_us=10.0, kernel=0.8),
    )
    whole, _, rest = text.partition("## Without the kernel")
    assert "| push: the server streams 125 B | 2.00 | 1.00 | ~0.50 |" in whole
    assert "| push: the server streams 125 B | 5.00 | 1.00 | ~0.50 |" in rest
    assert "| 80% | near |" in rest


def test_a_share_of_the_kernel_that_cannot_be_told_is_not_shown() -> None:
    text = page(
        Sample("uvicorn", "push", "raw", 0, placement="near", cpu_us=20.0),
        Sample("asgiws", "push", "raw", 0, placement="near", cpu_us=10.0),
    )
    assert "## Without the kernel" not in text
    assert "|  | near |" in text


def test_a_ratio_compares_one_round_and_one_placement_only() -> None:
    table = summarise(
        [
            sample("uvicorn", 0, "near", 10.0),
            sample("uvicorn", 1, "far", 20.0),
            sample("uvicorn", 2, "near", 12.0),
            sample("asgiws", 0, "near", 5.0),
            sample("asgiws", 1, "near", 5.0),  # no like in its round
            sample("asgiws", 2, "near", 4.0),
            sample("granian", 0, "near", 1.0, refused="answers lost"),
        ]
    )
    cells = table["push", "raw"]
    assert cells["asgiws"].ratios == [2.0, 3.0]
    assert cells["asgiws"].ratio == 2.5
    assert cells["uvicorn"].ratio == 1.0
    assert cells["granian"].ratio is None
    assert cells["granian"].refused == ["answers lost"]


def test_the_clients_of_a_fleet_count_answers_and_losses() -> None:
    directory = str(ROOT / "benchmarks")
    with Served("asgiws", "apps:raw", "--app-dir", directory, "--port", "0") as server:

        async def clients() -> Load:
            load = Load(server.port)
            assert await load.stay(5) == {server.process.pid}
            load.start(pause=0.001)
            await asyncio.to_thread(
                server.wait_until,
                lambda: load.requests.done > 20 and load.handshakes.done > 5,
                "the answers",
            )
            assert not load.requests.lost + load.handshakes.lost + load.reconnects.lost
            server.process.kill()
            await asyncio.to_thread(
                server.wait_until,
                lambda: load.requests.lost and load.handshakes.lost and load.reconnects.lost,
                "the losses",
            )
            await load.stop()
            return load

        load = asyncio.run(asyncio.wait_for(clients(), server.deadline))
    assert load.codes == {1006: 5}
    assert load.fullest_second == 5


def test_the_page_of_the_fleet_compares_within_a_round() -> None:
    def rows(server: str, times: list[float]) -> list[dict[str, Any]]:
        shared = {"kind": "handshake", "server": server, "workers": 2, "per_second": 100.0}
        return [{**shared, "round": round, "cpu_us": time} for round, time in enumerate(times)]

    found = {
        "date": "2026-11-27",
        "machine": {"cores": "2", "kernel": "Linux", "python": "3.11", "commit": "abc"},
        "versions": {"uvicorn": "0.54.0"},
        "speed": [*rows("asgiws", [100.0, 200.0, 100.0]), *rows("uvicorn", [200.0, 400.0, 800.0])],
        "ways": [*rows("asgiws", [100.0, 200.0]), *rows("a socket for each", [90.0, 180.0])],
        "spread": [{"server": "asgiws", "one by one": [2, 1], "after a kill": "the program ends"}],
        "restart": [{"server": "hypercorn", "refused": "has no such thing"}],
    }
    page = fleet_report.page(found)
    assert "| asgiws | 100 µs (2.00), 100/s |" in page
    assert "| uvicorn | 400 µs (1.00), 100/s |" in page
    assert "| a socket for each | 135 µs (0.90), 100/s |" in page
    assert "| asgiws | 2 / 1 |  |  | the program ends |" in page
    assert "| hypercorn | has no such thing |" in page


def test_a_chart_has_few_bars_with_their_figures_beside_them(tmp_path: Path) -> None:
    values = {"asgiws": 2.1, "uvicorn": 1.0, "hypercorn": 0.44, "granian": 0.76, "c-epoll": 3.27}
    rows = [{"title": "echo <1>", "server": name, "value": value} for name, value in values.items()]
    plots.draw({"echo": {"note": "a & b", "rows": rows, "better": "high"}}, tmp_path)
    svg = ElementTree.parse(tmp_path / "echo.svg").getroot()
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    wanted = ["a & b", "echo <1>", "asgiws", "2.10", "uvicorn", "1.00", "granian", "0.76"]
    assert texts == wanted
    widths = [float(bar.attrib["width"]) for bar in svg.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] / widths[1] == pytest.approx(2.1, abs=0.01)


def test_what_a_function_calls_counts_where_it_stands() -> None:
    profile = """events: Ir

ob=(1) /lib/one.so
fl=(1)
fn=(1) outer
3 10
cob=(2) /lib/two.so
cfn=(2) inner
calls=4 9
+2 400
* 5
ob=(2)
fn=(2)
9 400
ob=(1)
fn=(3) another
-4 7
"""
    assert modules.totals(profile) == {"/lib/one.so": 22, "/lib/two.so": 400}


def test_instructions_stand_in_a_table_of_those_that_were_counted(tmp_path: Path) -> None:
    counted = {("hello", "raw", "asgiws"): 77380.4, ("file-64k", "starlette", "uvicorn"): 1.8e6}
    text = instructions.table(counted)
    assert text.splitlines()[2:] == [
        "| a small page, the connection kept alive | 77,380 |  |  |  |",
        "| a file of 64 KiB by `FileResponse` |  |  |  | 1,800,000 |",
    ]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{instructions.START}\nold\n{instructions.END}\nbehind\n")
    assert report.insert(page, text, instructions.START, instructions.END)
    assert page.read_text().startswith(f"before\n{instructions.START}\n|")
    assert "old" not in page.read_text()
    assert instructions.START in instructions.PAGE.read_text()


def test_each_row_of_instructions_is_a_scenario_with_one_connection() -> None:
    for name, app, _ in instructions.ROWS:
        assert app in SCENARIOS[name].apps
        assert "--connections 1 " in instructions.alone(SCENARIOS[name]).load + " "
    assert set(instructions.COLUMNS) <= set(SERVERS)

"""``asgiws.run``: one process, or several."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import asgiws
from asgiws.errors import BindError, ConfigError
from asgiws.process.program import fail

from ..toolkit.program import Program
from ..toolkit.raw_http import Client
from ..toolkit.served import Served

HERE = Path(__file__).parent
FLEET = "board channel child dispatch fleet inbox intake reload spawning supervisor watcher worker"
APP = (HERE / "fleet_app.py").read_text("utf-8")


def program(directory: Path, call: str, guard: str = 'if __name__ == "__main__":\n    ') -> Program:
    """A script that calls ``asgiws.run``, with the application beside it."""
    (directory / "fleet_app.py").write_text(APP, "utf-8")
    (directory / "script.py").write_text(f"import asgiws\n{guard}{call}\n", "utf-8")
    return Program("script", cwd=directory)


def test_an_application_object_cannot_be_served_by_several_processes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    with pytest.raises(SystemExit):
        asgiws.run(app, workers=2)
    assert "workers 2: each worker imports the application anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "status", "told"),
    [
        (
            'asgiws.run("fleet_app:app", prot=80)',
            2,
            r"there is no such option; did you mean port\?",
        ),
        ('asgiws.run("fleet_app:app", port="80")', 2, "port must be a whole number"),
        ('asgiws.run("fleet_app:nothing", port=0)', 3, "nothing"),
        ('asgiws.run("fleet_app:nothing", port=0, workers=2)', 3, "nothing"),
        ('asgiws.run("fleet_app:app", bind="unix:/no/such/place")', 4, "/no/such/place"),
    ],
)
def test_a_script_that_cannot_start_says_why_in_one_line_and_ends_with_the_exit_code_of_the_cli(
    tmp_path: Path, call: str, status: int, told: str
) -> None:
    with program(tmp_path, call) as script:
        assert script.wait_for_end() == status
        lines = script.lines()
    assert len(lines) == 1, "".join(lines)
    assert lines[0].startswith("Error: ")
    assert script.lines(told)


def test_an_application_that_raises_shows_its_own_traceback_in_a_script(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n", "utf-8")
    with program(tmp_path, 'asgiws.run("broken:app", port=0)') as script:
        assert script.wait_for_end() == 3
        assert script.lines(r"^    1 / 0$")
        assert not script.lines("program.py"), "it shows asgiws"
        assert script.lines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    "call",
    [
        'asgiws.run("slow:app", port=0)',
        'asgiws.run("slow:app", port=0, workers=2)',
        'asgiws.run("slow:app", port=0, reload=True)',
    ],
)
def test_ctrl_c_while_the_application_is_imported_ends_a_script_without_a_traceback(
    tmp_path: Path, call: str
) -> None:
    # In one write, or the lines of two workers may be mixed.
    slow = "import threading\nprint('importing\\n', end='')\nthreading.Event().wait(60)\n"
    (tmp_path / "slow.py").write_text(slow, "utf-8")
    with program(tmp_path, call) as script:
        script.wait_for_count("importing", 2 if "workers" in call else 1)
        script.ctrl_c()
        assert script.wait_for_end() == 130
        assert not script.lines("Traceback|KeyboardInterrupt|ERROR|WARNING")
    assert not script.processes()


def test_ctrl_c_after_the_start_of_a_script_is_an_end_as_it_should_be(tmp_path: Path) -> None:
    with program(tmp_path, 'asgiws.run("fleet_app:app", port=0, workers=2)') as script:
        script.wait_until_serving()
        script.ctrl_c()
        assert script.wait_for_end() == 0


def test_a_server_that_cannot_start_raises() -> None:
    with pytest.raises(BindError):
        asgiws.Server(
            asgiws.Config("tests.process.fleet_app:app", bind="unix:/no/such/place")
        ).run()


async def test_run_in_an_event_loop_that_runs_tells_what_to_call_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        asgiws.run("tests.process.fleet_app:app", port=0)
    assert ended.value.code == ConfigError.exit_code
    assert capsys.readouterr().err == (
        "Error: asgiws.run was called in an event loop that runs: "
        "call `await asgiws.Server(asgiws.Config(app)).serve()` there\n"
    )


def test_an_object_that_is_not_an_application_is_refused_with_both_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        asgiws.run(42)  # type: ignore[arg-type]
    assert capsys.readouterr().err == (
        "Error: Config(app=42): app must be an import string, module:attribute "
        "(in Python also the application)\n"
    )


@pytest.mark.parametrize("level", ["INFO", "Info", "info", 20])
def test_a_level_is_known_in_any_case(level: object) -> None:
    assert asgiws.Config("app:app", log_level=level).log_level == "info"


def test_a_server_is_one_process() -> None:
    with pytest.raises(ConfigError, match=r"asgiws\.run starts several"):
        asgiws.Server(asgiws.Config("app:app", workers=2))


def test_one_process_imports_nothing_of_the_fleet() -> None:
    with Served("asgiws", "tests.process.fleet_app:app", "--port", "0") as served:
        with Client(served) as client:
            loaded = client.get("/modules").body.decode().split()
        ours = {name.removeprefix("asgiws.process.") for name in loaded}
        assert "server" in ours
        assert not ours.intersection(FLEET.split())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_script_serves_until_it_is_told_to_end_and_goes_on_then(
    tmp_path: Path, workers: int
) -> None:
    call = f'asgiws.run("fleet_app:app", port=0, workers={workers}); print("after", "it")'
    with program(tmp_path, call) as script:
        script.wait_until_serving()
        assert len(script.processes()) == (1 if workers == 1 else 1 + workers)
        script.send(signal.SIGTERM)
        assert script.wait_for_end() == 0
        assert script.lines("after it")


def test_a_script_without_a_guard_is_told_what_is_missing(tmp_path: Path) -> None:
    call = 'app = None\nasgiws.run("script:app", port=0, workers=2)'
    with program(tmp_path, call, guard="") as script:
        assert script.wait_for_end() == 3
        assert script.lines('^Error: .*put the call behind if __name__ == "__main__"')
        assert not script.lines("SystemExit")


def test_a_program_without_a_stderr_ends_with_its_exit_code_and_is_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with pytest.raises(SystemExit) as ended:
        fail(BindError("port 80"))
    assert ended.value.code == 4
    assert capsys.readouterr().out == ""

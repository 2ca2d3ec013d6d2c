"""``asgiws.run``: one process, or several."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import asgiws
from asgiws.errors import ConfigError

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


def test_an_application_object_cannot_be_served_by_several_processes() -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    with pytest.raises(ConfigError, match="workers 2: each worker imports the application anew"):
        asgiws.run(app, workers=2)


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
        assert script.wait_for_end() != 0
        assert script.lines('put the call behind if __name__ == "__main__"')

"""Variables that Kubernetes sets in every pod for a service named asgiws, or asgiws-something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asgiws.errors import ConfigError
from asgiws.options.config import Config
from asgiws.options.sources import load

from ..toolkit.served import ROOT

APP = {"app": "main:app"}
SERVICE = {
    "ASGIWS_SERVICE_HOST": "10.0.0.1",
    "ASGIWS_SERVICE_PORT": "80",
    "ASGIWS_SERVICE_PORT_HTTP": "80",
    "ASGIWS_PORT": "tcp://10.0.0.1:80",
    "ASGIWS_PORT_80_TCP": "tcp://10.0.0.1:80",
    "ASGIWS_PORT_80_TCP_PROTO": "tcp",
    "ASGIWS_PORT_80_TCP_PORT": "80",
    "ASGIWS_PORT_80_TCP_ADDR": "10.0.0.1",
    "ASGIWS_PORT_53_UDP_ADDR": "10.0.0.1",
    "ASGIWS_CHAT_2_SERVICE_HOST": "10.0.0.2",
    "ASGIWS_CHAT_2_SERVICE_PORT_WS": "8000",
    "ASGIWS_CHAT_2_PORT": "udp://[fd00::1]:8000",
    "ASGIWS_CHAT_2_PORT_8000_SCTP": "sctp://10.0.0.2:8000",
}


@pytest.mark.parametrize("variable", SERVICE)
def test_a_variable_of_a_service_is_not_an_option(variable: str) -> None:
    assert load(APP, {variable: SERVICE[variable]}) == Config("main:app")


def test_the_option_is_read_beside_them() -> None:
    assert load(APP, {**SERVICE, "ASGIWS_PORT": "9000"}).port == 9000


@pytest.mark.parametrize(
    ("variable", "word"),
    [
        ("ASGIWS_PORT", "http://10.0.0.1:80"),
        ("ASGIWS_PORT", "80/tcp"),
        ("ASGIWS_HOST_PORT", "80"),
        ("ASGIWS_SERVICE", "x"),
        ("ASGIWS_PORT_80", "x"),
        ("ASGIWS_PORT_80_TCP_HOST", "x"),
    ],
)
def test_what_only_resembles_one_is_a_mistake(variable: str, word: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        load(APP, {variable: word})


@pytest.mark.parametrize("level", ["debug", "info"])
def test_that_they_are_ignored_is_told_at_debug(level: str, tmp_path: Path) -> None:
    environ = {"PYTHONPATH": str(ROOT), "ASGIWS_LOG_LEVEL": level, **SERVICE}
    environ["ASGIWS_PURE"] = os.environ.get("ASGIWS_PURE", "")
    ended = subprocess.run(
        [sys.executable, "-m", "asgiws", "missing:app"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 3  # the application, not an option
    told = "ASGIWS_PORT=tcp://10.0.0.1:80 is taken for what Kubernetes says of a service"
    assert (told in ended.stderr) is (level == "debug")

"""What values the kinds of options take, and how a declaration reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import ConfigError
from asgiws.options import kinds
from asgiws.options.config import OPTIONS
from asgiws.options.kinds import Kind, Option

BY_NAME = {option.name: option for option in OPTIONS}

# kind -> (values it takes with their one final form, values it refuses)
CASES: dict[str, tuple[Kind, list[tuple[Any, Any]], list[Any]]] = {
    "whole": (kinds.whole(1, 10), [(1, 1), (10, 10)], [0, 11, True, 1.0, "1", None]),
    "seconds": (
        kinds.seconds(),
        [(1, 1.0), (0.5, 0.5)],
        [0, -1, True, "1", float("nan"), float("inf"), 2**31],
    ),
    "seconds or 0": (kinds.seconds(zero=True), [(0, 0.0)], [-0.1]),
    "text": (kinds.text(pattern="/.*"), [("/a", "/a")], ["a", "/a\n", "/\0", b"/a", 5]),
    "choice": (kinds.choice("on", "off"), [("on", "on")], ["ON", "", None]),
    "switch": (kinds.switch(), [(True, True), (False, False)], [1, 0, "on", None]),
    "addresses": (
        kinds.addresses(),
        [("::1, 10.0.0.0/8,", "::1,10.0.0.0/8"), (["*"], "*"), ("", "")],
        ["localhost", "10.0.0.256", 5, [5]],
    ),
    "bind_addresses": (
        kinds.bind_addresses(),
        [
            (["127.0.0.1:1", "unix:///a,b"], ("127.0.0.1:1", "unix:/a,b")),
            ("[::1]:1, :2", ("[::1]:1", ":2")),
            ([], ()),
        ],
        ["", ["127.0.0.1"], ["fd://3", "fd://3"], [5], 5, ["unix:\0"]],
    ),
    "permissions": (
        kinds.permissions(),
        [("660", 0o660), ("0600", 0o600), ("0o777", 0o777), (0o644, 0o644), (0, 0)],
        ["", "8", "888", "1777", "66", "rw", 660, -1, True, None],
    ),
    "headers": (
        kinds.header_lines(),
        [(["X-A:  b "], ((b"x-a", b"b"),)), ([(b"X", "y")], ((b"x", b"y"),))],
        [["no colon"], ["a b: c"], ["x: \n"], ["content-length: 5"], [("x", "€")], "x: y"],
    ),
    "several": (
        kinds.several(kinds.text(pattern="/.*")),
        [(["/a", "/b"], ("/a", "/b")), ("/a", ("/a",)), (Path("/a"), ("/a",)), ((), ())],
        [["a"], "a", 5, None, [["/a"]]],
    ),
    "origins": (
        kinds.origins(),
        [("null , https://a.example,", "null,https://a.example"), (["*"], "*")],
        ["", [], "a.example", 5, [5]],
    ),
    "hosts": (
        kinds.hosts(),
        [("a.example, *.B,[::1]", "a.example,*.B,[::1]"), (["*"], "*")],
        ["", [], "a.example:80", "https://a", 5, [5]],
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        *("connection", "Content-Length", "transfer-encoding", "upgrade"),
        *("sec-websocket-accept", "Sec-WebSocket-Extensions", "sec-websocket-protocol"),
        "sec-websocket-version",
    ],
)
def test_headers_that_the_server_writes_cannot_be_added(name: str) -> None:
    with pytest.raises(kinds.Unfit, match=f"{name.lower()} is set by the server"):
        kinds.header_lines().check([f"{name}: x"])
    for other in ("date", "server", "content-type", "x-sec-websocket-accept"):
        kinds.header_lines().check([f"{other}: x"])


@pytest.mark.parametrize("name", CASES)
def test_a_kind_takes_what_fits_in_one_form_and_refuses_the_rest(name: str) -> None:
    kind, good, bad = CASES[name]
    for value, wanted in good:
        assert kind.check(value) == wanted
        assert type(kind.check(value)) is type(wanted)
        assert kind.check(kind.check(value)) == wanted
    for value in bad:
        with pytest.raises(ValueError):  # noqa: PT011  # Unfit, or without words
            kind.check(value)


@pytest.mark.parametrize(("word", "value"), [("On", True), ("yes", True), ("0", False)])
def test_a_switch_is_one_of_several_words(word: str, value: bool) -> None:
    assert kinds.switch().parse(word) is value
    with pytest.raises(ValueError, match=r"^$"):
        kinds.switch().parse(word + "!")


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_default_of_an_option_is_one_of_its_values(option: Option) -> None:
    if option.name != "app":
        assert option.check(option.default) == option.default
    assert option.kind.expects
    assert option.help


def test_an_option_has_one_word_in_every_source() -> None:
    option = BY_NAME["ws_ping_interval"]
    assert (option.flag, option.variable) == ("--ws-ping-interval", "ASGIWS_WS_PING_INTERVAL")
    assert BY_NAME["app"].flag == "APP"
    assert BY_NAME["headers"].flag == "--header"


def test_none_switches_off_what_can_be_switched_off() -> None:
    assert BY_NAME["ws_ping_interval"].parse("None") is None
    assert BY_NAME["ws_ping_interval"].check("none") is None
    with pytest.raises(ValueError, match="none"):
        BY_NAME["port"].parse("none")


def test_a_message_names_the_place_and_is_one_line() -> None:
    port, typed = BY_NAME["port"], "\x1b" * 500
    with pytest.raises(ConfigError) as caught:
        kinds.convert(port.parse, typed, port, f"--port {typed}", "--port")
    message = str(caught.value)
    assert message.startswith("--port ")
    assert message.endswith("--port must be a whole number from 0 to 65535")
    assert message.isprintable()
    assert len(message) < 300

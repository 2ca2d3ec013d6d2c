"""Filters, handlers, formatters and settings of others: what they get and what they cannot do."""

from __future__ import annotations

import configparser
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from uvicorn.logging import AccessFormatter

from asgiws.log import (
    MALFORMED_LINE,
    REQUEST_LINE,
    SESSION_LINE,
    access_log,
    configure,
    error_log,
)

from .toolkit.client_frames import BINARY, TEXT, client_frame
from .toolkit.raw_http import Client
from .toolkit.raw_websocket import RawWebSocket, upgrade
from .toolkit.running import DEADLINE, LOOPS, running

REQUEST = ("127.0.0.1:1", "GET", "/health", "1.1", 200)


class Raises(logging.Filter):
    """A filter that takes every record for uvicorn's of long ago."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise KeyError(record.getMessage())


class Exits(logging.Filter):
    """A filter whose configuration is wrong, and that ends the program for it."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise SystemExit("no such collector")


class RaisingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        raise ValueError("no such field")


class RaisingHandler(logging.Handler):
    """Raises itself, and does not leave it to ``handleError``."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)
        raise RuntimeError("the collector is away")


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """What reaches a handler of the access log."""
    configure()
    handler = Kept()
    access_log.addHandler(handler)
    yield handler
    for log in (access_log, error_log):
        log.filters[1:] = [item for item in log.filters[1:] if type(item).__name__ == "SafeFilter"]


def spoil(log: logging.Logger, how: str) -> None:
    if how in ("filter", "filter that exits"):
        log.addFilter(Raises() if how == "filter" else Exits())
        return
    handler: logging.Handler = RaisingHandler()
    if how == "formatter":
        handler.setFormatter(RaisingFormatter())
    if how == "filter of a handler":
        handler.addFilter(Raises())
    log.addHandler(handler)


SPOILED = ["filter", "filter that exits", "handler", "formatter", "filter of a handler"]


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("log", [error_log, access_log], ids=lambda log: log.name)
def test_a_log_never_raises_into_its_caller_and_says_so_once(
    log: logging.Logger, how: str, kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(log, how)
    log.info("one\x1b")
    log.exception("two")
    log.log(logging.ERROR, "three")
    err = capsys.readouterr().err
    assert err.count(f"Logging to {log.name} failed; this is told once.\nTraceback") == 1
    assert "\x1b" not in err
    configure()
    spoil(log, how)
    log.info("four")
    assert "this is told once" in capsys.readouterr().err


def test_a_record_factory_that_raises_is_no_exception(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogRecordFactory()

    def factory(*_args: Any, **_options: Any) -> logging.LogRecord:
        raise LookupError("no request in this context")

    logging.setLogRecordFactory(factory)
    try:
        error_log.info("one")
    finally:
        logging.setLogRecordFactory(before)
    assert "LookupError" in capsys.readouterr().err


def test_a_stderr_that_is_gone_is_no_exception(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(access_log, "handler")
    for stderr in (None, io.TextIOWrapper(io.BytesIO())):
        if stderr is not None:
            stderr.close()
        monkeypatch.setattr("sys.stderr", stderr)
        access_log.told = False
        access_log.info("one")


def test_a_record_names_the_place_that_logged_it(kept: Kept) -> None:
    access_log.info("here")
    (record,) = kept.records
    assert record.funcName == "test_a_record_names_the_place_that_logged_it"
    assert record.pathname == __file__


async def app(scope: Any, receive: Any, send: Any) -> None:
    event = await receive()
    if scope["path"] == "/raises":
        raise RuntimeError("the application's own")
    if event["type"] == "websocket.connect":
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", SPOILED)
def test_a_connection_goes_on_whatever_its_log_does(
    loop: str, how: str, package: Any, kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    for log in (access_log, error_log):
        spoil(log, how)
    with running(app, loop, package) as server:
        with Client(server) as client:
            assert client.get().body == b"hello"
            assert client.get().body == b"hello"
            assert client.get("/raises").status == 500
            assert client.rest() == b""
        with Client(server) as client:
            client.send(upgrade())
            assert client.read().status == 403
        with Client(server) as client:
            client.send(b"nonsense\r\n\r\n")
            assert client.read().status == 400
    assert "this is told once" in capsys.readouterr().err


class TestTheArgumentsOfALine:
    @pytest.mark.parametrize(
        ("line", "args", "wanted"),
        [
            (REQUEST_LINE, REQUEST, '127.0.0.1:1 - "GET /health HTTP/1.1" 200'),
            (
                SESSION_LINE + " subprotocol=100%% 1.0s",
                ("127.0.0.1:1", "WebSocket", "/health", "1.1", 101),
                '127.0.0.1:1 - "WebSocket /health" 101 subprotocol=100% 1.0s',
            ),
            (
                MALFORMED_LINE,
                ("127.0.0.1:1", "", "/health", "", 400),
                '127.0.0.1:1 - "/health" 400',
            ),
        ],
    )
    def test_every_line_has_the_arguments_that_uvicorns_has(
        self, line: str, args: tuple[Any, ...], wanted: str, kept: Kept
    ) -> None:
        access_log.info(line, *args)
        (record,) = kept.records
        assert record.args == args
        assert record.getMessage() == wanted
        assert isinstance(record.args, tuple)
        assert record.args[2] == "/health"

    def test_arguments_are_escaped_one_by_one(self, kept: Kept) -> None:
        access_log.info(REQUEST_LINE, "c\x1b", "GET", "/\x1b[2J\n%s", "1.1", 200)
        (record,) = kept.records
        assert record.args == ("c\\x1b", "GET", "/\\x1b[2J\\x0a%s", "1.1", 200)
        assert record.getMessage() == 'c\\x1b - "GET /\\x1b[2J\\x0a%s HTTP/1.1" 200'

    def test_what_is_neither_text_nor_a_number_is_escaped_with_the_line(self, kept: Kept) -> None:
        access_log.info("%s %r %d", ValueError("\x1b"), b"\x1b", 1)
        access_log.info({"\x1b": 1})
        access_log.info("%(a)s", {"a": "\x1b"})
        first, second, third = kept.records
        assert first.getMessage() == "\\x1b b'\\x1b' 1"
        assert second.getMessage() == "{'\\x1b': 1}"
        assert third.getMessage() == "\\x1b"

    @pytest.mark.parametrize(
        "wanted",
        [
            lambda record: record.args[2] != "/health",
            lambda record: record.args and len(record.args) >= 3 and record.args[2] != "/health",
            lambda record: record.getMessage().find("/health") == -1,
            lambda record: "/health" not in record.getMessage(),
        ],
    )
    def test_the_filters_that_are_written_for_uvicorn_work(self, wanted: Any, kept: Kept) -> None:
        kept.addFilter(wanted)
        access_log.info(REQUEST_LINE, *REQUEST)
        access_log.info(REQUEST_LINE, "127.0.0.1:1", "GET", "/", "1.1", 200)
        assert [record.args[2] for record in kept.records if record.args] == ["/"]

    def test_a_formatter_of_uvicorns_works(self, kept: Kept) -> None:
        formatter = AccessFormatter(
            "%(client_addr)s|%(request_line)s|%(status_code)s", use_colors=False
        )
        access_log.info(REQUEST_LINE, *REQUEST)
        access_log.info(SESSION_LINE, "127.0.0.1:1", "WebSocket", "/", "1.1", 403)
        assert [formatter.format(record) for record in kept.records] == [
            "127.0.0.1:1|GET /health HTTP/1.1|200 OK",
            "127.0.0.1:1|WebSocket / HTTP/1.1|403 Forbidden",
        ]


class TestSettingsForUvicorn:
    def settings(self, *names: str) -> dict[str, Any]:
        return {"version": 1, "loggers": {name: {"level": "INFO"} for name in names}}

    @pytest.mark.parametrize("form", ["dict", "json", "ini"])
    @pytest.mark.parametrize("names", [["uvicorn.access"], ["uvicorn", "uvicorn.error"]])
    def test_loggers_of_uvicorns_only_are_told_with_the_names_of_ours(
        self,
        form: str,
        names: list[str],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        source: Any = self.settings(*names)
        if form != "dict":
            path = tmp_path / f"l.{form}"
            path.write_text(json.dumps(source) if form == "json" else self.ini(names))
            source = str(path)
        error_log.parent.handlers.clear()  # type: ignore[union-attr]
        logging.getLogger().handlers.clear()
        configure(config=source)
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert ", ".join(names) in err
        assert "its loggers are asgiws.error and asgiws.access" in err

    def ini(self, names: list[str]) -> str:
        parser = configparser.RawConfigParser()
        keys = [name.replace(".", "_") for name in names]
        parser.read_dict(
            {
                "loggers": {"keys": ",".join(["root", *keys])},
                "handlers": {"keys": ""},
                "formatters": {"keys": ""},
                "logger_root": {"handlers": ""},
                **{
                    f"logger_{key}": {"qualname": name, "handlers": ""}
                    for key, name in zip(keys, names, strict=True)
                },
            }
        )
        stream = io.StringIO()
        parser.write(stream)
        return stream.getvalue()

    @pytest.mark.parametrize(
        "names", [["uvicorn.access", "asgiws"], ["asgiws.error"], ["uvicornish"], []]
    )
    def test_nothing_is_said_where_ours_are_named_or_uvicorns_are_not(
        self, names: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(config=self.settings(*names))
        assert capsys.readouterr().err == ""


def test_a_filter_for_uvicorns_records_sees_every_line_of_a_server(
    package: Any, kept: Kept
) -> None:
    async def accepting(scope: Any, receive: Any, send: Any) -> None:
        event = await receive()
        if event["type"] == "websocket.connect" and scope["path"] == "/accepted":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.connect":
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

    with running(accepting, package=package) as server:
        with Client(server) as client:
            assert client.get("/health").status == 204
        with Client(server) as client:
            client.send(upgrade())
            assert client.read().status == 403
        with Client(server) as client:
            client.send(upgrade().replace(b"GET /", b"GET /accepted"))
            assert client.read().status == 101
        with Client(server) as client:
            client.send(b"nonsense\r\n\r\n")
            assert client.read().status == 400
    lines = sorted((record.args[1:] for record in kept.records if record.args), key=str)
    assert lines == [
        ("", "nonsense", "", 400),
        ("GET", "/health", "1.1", 204),
        ("WebSocket", "/", "1.1", 403),
        ("WebSocket", "/accepted", "1.1", 101),
    ]
    (session,) = [record for record in kept.records if "/accepted" in record.getMessage()]
    assert " close=" in session.getMessage()
    assert session.closed_by in ("client", "server")  # type: ignore[attr-defined]


def test_the_record_of_a_session_carries_what_happened_in_it(
    package: Any, loop: str, kept: Kept
) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "chat"})
        for _ in range(2):
            await send({**await receive(), "type": "websocket.send"})
        await send({"type": "websocket.send", "text": "bye"})
        await send({"type": "websocket.close", "code": 4000})

    with running(echo, loop, package) as server:
        with RawWebSocket(server, "Sec-WebSocket-Protocol: chat", target="/a%1b?b") as client:
            host, port = client.sock.getsockname()
            client.send(client_frame(TEXT, b"12345") + client_frame(BINARY, b"123"))
            assert client.close_code() == 4000
        server.wait_until(lambda: not server.server.serving.connections)
    (record,) = kept.records
    assert record.args == (f"{host}:{port}", "WebSocket", "/a%1b?b", "1.1", 101)
    fields = vars(record)
    assert 0.0 <= fields.pop("duration") < DEADLINE
    names = ("subprotocol", "messages_in", "bytes_in", "messages_out", "bytes_out")
    assert [fields[name] for name in names] == ["chat", 2, 8, 3, 11]
    assert (fields["close_code"], fields["closed_by"]) == (4000, "server")

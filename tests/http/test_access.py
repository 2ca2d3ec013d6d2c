"""The lines of the access log: their words, and the arguments that filters of others read."""

from __future__ import annotations

import logging
from types import ModuleType

import pytest

CLIENT = ("192.0.2.1", 5000)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "asgiws.access")
    return caplog


def test_a_request_has_five_arguments(package: ModuleType, lines: pytest.LogCaptureFixture) -> None:
    request = package.http.request.parse(b'GET /a?"b HTTP/1.0\r\n\r\n')
    package.http.access.log_request(CLIENT, request, 404)
    (record,) = lines.records
    assert record.args == ("192.0.2.1:5000", "GET", "/a?%22b", "1.0", 404)
    assert record.getMessage() == '192.0.2.1:5000 - "GET /a?%22b HTTP/1.0" 404'


def test_what_is_no_request_has_as_many(
    package: ModuleType, lines: pytest.LogCaptureFixture
) -> None:
    package.http.access.log_malformed(None, b"BREW", 400)
    (record,) = lines.records
    assert isinstance(record.args, tuple)
    assert len(record.args) == 5
    assert record.args[4] == 400
    assert '"BREW" 400' in record.getMessage()


def test_tls_on_a_port_without_it_has_words_instead_of_its_bytes(
    package: ModuleType, lines: pytest.LogCaptureFixture
) -> None:
    package.http.access.log_malformed(CLIENT, b"\x16\x03\x01\x02\x00\x01\x00\xfc\x9a", 400)
    (record,) = lines.records
    assert record.getMessage() == '192.0.2.1:5000 - "TLS on a port without TLS" 400'


def test_a_session_has_attributes_beside_them(
    package: ModuleType, lines: pytest.LogCaptureFixture
) -> None:
    package.http.access.log_session(CLIENT, b"/chat", 101, " 50% of it", {"close_code": 1000})
    (record,) = lines.records
    assert record.args == ("192.0.2.1:5000", "WebSocket", "/chat", "1.1", 101)
    assert record.getMessage().endswith(" 50% of it")
    assert vars(record)["close_code"] == 1000


def test_a_log_that_is_off_costs_no_words(
    package: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asgiws.access")
    package.http.access.log_malformed(None, b"BREW", 400)
    package.http.access.log_session(CLIENT, b"/chat", 101)
    assert caplog.records == []

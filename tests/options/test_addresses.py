"""What ``--bind`` takes, and what is said of the rest."""

from __future__ import annotations

import re

import pytest

from asgiws.options.addresses import Address, Descriptor, Inet, Unix, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", Inet("127.0.0.1", 8000)),
        ("localhost:0", Inet("localhost", 0)),
        (":8000", Inet("", 8000)),
        ("[::1]:443", Inet("::1", 443)),
        ("[fe80::1%eth0]:65535", Inet("fe80::1%eth0", 65535)),
        ("unix:/run/app.sock", Unix("/run/app.sock")),
        ("unix:relative/app,1.sock", Unix("relative/app,1.sock")),
        ("fd://0", Descriptor(0)),
        ("fd://17", Descriptor(17)),
    ],
)
def test_an_address_is_taken_apart_and_reads_as_it_was_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


def test_a_unix_socket_may_be_written_as_a_url() -> None:
    assert parse_address("unix:///run/app.sock") == Unix("/run/app.sock")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1", "127.0.0.1 has no port: 127.0.0.1:8000, for example"),
        ("localhost", "localhost has no port: localhost:8000, for example"),
        ("[::1]", "[::1] has no port: [::1]:8000, for example"),
        ("8000", "8000 has no host: :8000 listens on all addresses of this machine"),
        ("::1", "::1: an IPv6 address stands in brackets, as in [::1]:8000"),
        ("::1:8000", "::1:8000: an IPv6 address stands in brackets, as in [::1]:8000"),
        ("unix:", "unix: has no path: unix:/run/app.sock, for example"),
        ("fd://", "fd:// has no number of a descriptor: fd://3, for example"),
        ("fd://three", "fd://three has no number of a descriptor: fd://3, for example"),
        ("a:65536", "a:65536: the port must be a whole number from 0 to 65535"),
        ("a:", "a:: the port must be a whole number from 0 to 65535"),
        ("a:http", "a:http: the port must be a whole number from 0 to 65535"),
        ("http://a:80", "http://a:80 is not one of host:port, [v6]:port, unix:path and fd://N"),
        ("/run/app.sock", "/run/app.sock is not one of host:port"),
        ("[a]:80", "[a]:80 is not one of host:port"),
        ("a b:80", "a b:80 is not one of host:port"),
        ("", "'' is not one of host:port"),
    ],
)
def test_what_is_not_an_address_is_told_what_is_missing(text: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}"):
        parse_address(text)

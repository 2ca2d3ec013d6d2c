"""Hosts: which are well-formed (RFC 3986 section 3.2.2), and the list of ``--allowed-hosts``."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..toolkit.builds import BUILDS

GOOD = (
    "a",
    "example.com",
    "example.com.",
    "EXAMPLE.com:80",
    "example.com:",
    "example.com:0000000080",
    "127.0.0.1:65535",
    "xn--bcher-kva.example",
    "b%C3%BCcher.example",
    "a_b~!$&'()*+,;=",
    "[::1]",
    "[::1]:8000",
    "[::]:",
    "[2001:DB8::192.0.2.1]:000443",
    "[fe80::1%25eth0]:80",
    "[fe80::1%25en%2F1]",
    "[v1.fe80::a+en1]:80",
    "[vF0.x]",
    "[V9.a:b]",
)
BAD = (
    "",
    ":80",
    "a b",
    "a\tb",
    "a/b",
    "a?b",
    "a#b",
    "user@a",
    "a\\b",
    "a|b",
    "a\x00",
    "\xe9",
    "a%",
    "a%4",
    "a%zz",
    "a:b",
    "a:-1",
    "a:123456",
    "a:80:80",
    "::1",
    "[]",
    "[::1",
    "::1]",
    "[::1]x",
    "[::1]:x",
    "[1:2]",
    "[:::]",
    "[%25eth0]",
    "[::1%eth0]",
    "[::1%25]",
    "[::1%25a b]",
    "[::1%25\x1b]",
    "[127.0.0.1]",
    "[a.example]",
    "[v.a]",
    "[v1.]",
    "[vg.a]",
    "[v1.a b]",
    "[v1.a%]",
)


@pytest.mark.parametrize("host", GOOD)
def test_what_is_a_host(package: ModuleType, host: str) -> None:
    assert package.wire.host.is_host(host.encode("latin-1")) is True


@pytest.mark.parametrize("host", BAD)
def test_what_is_not_a_host(package: ModuleType, host: str) -> None:
    assert package.wire.host.is_host(host.encode("latin-1")) is False


@given(st.text("[]:.%v1aF25zx-", max_size=12) | st.binary(max_size=12).map(str))
def test_both_builds_judge_alike(host: str) -> None:
    verdicts = {package.wire.host.is_host(host.encode()) for package in BUILDS.values()}
    assert len(verdicts) == 1


# list -> (allowed, refused)
LISTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "*": (("example.com", "[::1%25eth0]", "b%C3%BCcher"), ()),
    "example.com": (
        ("example.com", "EXAMPLE.COM", "example.com.", "example.com:8000", "example.com:"),
        (
            "www.example.com",
            "example.com.evil",
            "evilexample.com",
            "ex%61mple.com",
            "example.com..",
            "localhost",
            "127.0.0.1",
        ),
    ),
    "*.example.com": (
        ("a.example.com", "A.b.Example.com:80", "a.example.com."),
        ("example.com", ".example.com", "aexample.com", "a.example.com.evil"),
    ),
    "localhost,127.0.0.1,[::1]": (
        ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[0:0:0:0:0:0:0:1]"),
        ("rebound.evil:8000", "127.0.0.2", "[::2]", "[::1%25lo]", "[v1.a]"),
    ),
    "bücher.example,Example.net.": (("xn--bcher-kva.example", "example.net"), ("bucher.example",)),
    "evil.example,*": (("anything",), ()),
}


@pytest.mark.parametrize("entries", LISTS)
def test_a_list_lets_in_what_it_names_and_nothing_else(package: ModuleType, entries: str) -> None:
    hosts = package.wire.host.Hosts(entries.split(","))
    allowed, refused = LISTS[entries]
    for host in allowed:
        assert hosts.allow([(b"x", b"y"), (b"host", host.encode())]), host
    for host in refused:
        assert not hosts.allow([(b"host", host.encode())]), host


def test_a_request_without_a_host_is_for_none_of_the_list(package: ModuleType) -> None:
    assert not package.wire.host.Hosts(["example.com"]).allow([])
    assert package.wire.host.Hosts(["*"]).allow([])


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "https://example.com",
        "example.com:80",
        "example.com/",
        "user@example.com",
        "a b",
        "a%41",
        ".example.com",
        "a..b",
        "*.",
        "*.*.example.com",
        "a*.example.com",
        "**",
        "::1",
        "[::1",
        "[::1]:80",
        "[::1%eth0]",
        "[1:2]",
        "a\x1bb",
    ],
)
def test_what_is_not_an_entry_is_told(package: ModuleType, entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host: expected a name"):
        package.wire.host.Hosts([entry])

"""An origin in its one form, and the list of those that are let in.

What a hostile page may try is in tests/attacks/test_origins.py.
"""

from __future__ import annotations

from types import ModuleType

import pytest

FORMS = {
    "https://example.com": ("https", "example.com", 443),
    "HTTP://EXAMPLE.com": ("http", "example.com", 80),
    "https://example.com:8443": ("https", "example.com", 8443),
    "app://example": ("app", "example", None),
    "https://[2001:DB8:0::1]:1": ("https", "[2001:db8::1]", 1),
    "https://STRASSE.example": ("https", "strasse.example", 443),
    "https://straße.example": ("https", "xn--strae-oqa.example", 443),
}


@pytest.mark.parametrize("text", FORMS)
def test_an_origin_has_one_form(package: ModuleType, text: str) -> None:
    assert package.wire.origin.parse(text) == FORMS[text]


@pytest.mark.parametrize(
    "text", ["example.com", "https:/example.com", "https://a/b", "https://[1::2::3]", "https://a b"]
)
def test_what_has_no_scheme_and_host_is_no_origin(package: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match=r"expected scheme://host"):
        package.wire.origin.parse(text)


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("https://a.example", b"https://a.example:443", b"http://a.example"),
        ("https://*.a.example", b"https://deep.er.a.example", b"https://a.example"),
        ("null", b"null", b"https://null"),
        ("same-host", b"https://own.example", b"http://own.example"),
        ("*", b"whatever it is", None),
    ],
)
def test_each_kind_of_entry_lets_in_what_it_names(
    package: ModuleType, entry: str, inside: bytes, outside: bytes | None
) -> None:
    origins = package.wire.origin.Origins([entry])
    host = (b"host", b"own.example")
    assert origins.allow([host, (b"origin", inside)], True)
    assert origins.allow([host], True)  # no browser
    if outside is not None:
        assert not origins.allow([host, (b"origin", outside)], True)
        assert not origins.allow([host, (b"origin", inside), (b"origin", inside)], True)

"""Tokens, lists and values of HTTP (RFC 9110 sections 5.5 and 5.6), in both builds."""

from __future__ import annotations

import re
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..toolkit.builds import BUILDS


def test_every_byte_is_one_of_a_token_or_not(package: ModuleType) -> None:
    # Section 5.6.2: any VCHAR, except delimiters.
    for octet in range(256):
        allowed = 0x21 <= octet <= 0x7E and octet not in b'"(),/:;<=>?@[\\]{}'
        for text in (b"%c" % octet, b"a%cb" % octet, b"ab%c" % octet):
            assert package.wire.grammar.is_token(text) is allowed
            found = re.fullmatch(package.wire.grammar.TOKEN, text.decode("latin-1"))
            assert (found is not None) is allowed


def test_a_token_is_not_empty(package: ModuleType) -> None:
    assert package.wire.grammar.is_token(b"") is False


def test_a_value_may_hold_tabs_but_no_other_control_character(package: ModuleType) -> None:
    # Section 5.5: field-vchar, SP and HTAB.
    for octet in range(256):
        control = (octet < 32 and octet != 9) or octet == 127
        assert package.wire.grammar.holds_controls(b"a%cb" % octet) is control


@pytest.mark.parametrize(
    ("values", "elements"),
    [
        ([], []),
        ([b""], []),
        ([b"a"], [b"a"]),
        ([b"a, B ,\tc\t"], [b"a", b"B", b"c"]),
        ([b",a,, ,b,"], [b"a", b"b"]),
        ([b"a", b"b,c"], [b"a", b"b", b"c"]),
        ([b"a b"], [b"a b"]),
    ],
)
def test_a_list_has_elements_and_empty_ones_do_not_count(
    package: ModuleType, values: list[bytes], elements: list[bytes]
) -> None:
    assert package.wire.grammar.elements(values) == elements
    assert package.wire.grammar.tokens(values) == [element.lower() for element in elements]


@given(st.lists(st.binary(max_size=20)))
def test_both_builds_read_a_list_alike(values: list[bytes]) -> None:
    read = [package.wire.grammar.tokens(values) for package in BUILDS.values()]
    assert all(elements == read[0] for elements in read)
    assert b"" not in read[0]

"""Words of others, made fit to be printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgiws.text import clip, counted, printable, printable_lines


class TestPrintable:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("/path?q=1 é €", "/path?q=1 é €"),
            ("\x1b[31mred", "\\x1b[31mred"),
            ("a\r\nINFO: forged", "a\\x0d\\x0aINFO: forged"),
            ("\x00\x7f\x80\x9b", "\\x00\\x7f\\x80\\x9b"),
            ("\u2028\u2029\u202e\u2066", "\\u2028\\u2029\\u202e\\u2066"),
            ("\ud800", "\\ud800"),
            (b"/\xff\x1b", "/ÿ\\x1b"),
        ],
    )
    def test_controls_are_escaped_and_the_rest_is_kept(
        self, text: str | bytes, wanted: str
    ) -> None:
        assert printable(text) == wanted

    @given(st.text() | st.binary())
    def test_the_result_is_one_line_that_any_stream_takes(self, text: str | bytes) -> None:
        result = printable(text)
        assert len(result.splitlines()) <= 1
        assert all(ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0 for char in result)
        assert result.encode("utf-8").decode("utf-8") == result
        assert printable(result) == result

    def test_many_lines_keep_their_ends_and_tabs(self) -> None:
        assert printable_lines("a\n\tb\r\x1b\u2028") == "a\n\tb\\x0d\\x1b\\u2028"

    @given(st.text())
    def test_what_a_message_quotes_is_short_and_one_line(self, text: str) -> None:
        assert len(clip(text)) <= 160
        assert clip(text) == printable(text) or clip(text).endswith("...")
        assert clip("x" * 160) == "x" * 160

    @pytest.mark.parametrize(
        ("number", "said"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (1000, "1000 calls")]
    )
    def test_numbers_agree_with_what_is_counted(self, number: int, said: str) -> None:
        assert counted(number, "call") == said

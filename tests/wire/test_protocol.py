"""Messages, pings and the closing handshake (RFC 6455 sections 5.4 to 7), in both builds."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..toolkit.builds import BUILDS
from ..toolkit.client_frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    client_frame,
    close_frame,
    cuts,
    deflated,
    server_frames,
    split,
)

OPEN, CLOSE_SENT, CLOSED, FAILED = range(4)

Message = str | bytes


class Outcome(NamedTuple):
    """What became of a connection: what it delivered, wrote, and ended with."""

    messages: list[Message]
    sent: list[tuple[int, bytes]]  # first byte and payload
    state: int
    code: int
    reason: str


def protocol(package: ModuleType, max_size: int = 1 << 20, deflate: bool = False) -> Any:
    inflator = None
    if deflate:
        agreed = package.wire.deflate.Agreed(True, True, 15, 15)
        inflator = package.wire.deflate.Inflator(agreed)
    return package.wire.protocol.Protocol(max_size, inflator)


def take(connection: Any) -> list[Message]:
    """Every message that can be had now."""
    return list(iter(connection.next_message, None))


def sent(connection: Any) -> list[tuple[int, bytes]]:
    """What the connection wants to be written; it is forgotten there."""
    data = b"".join(connection.replies or ())
    connection.replies = None
    return [(first, payload) for first, _, payload in server_frames(data)]


def run(
    package: ModuleType, chunks: list[bytes], max_size: int = 1 << 20, deflate: bool = False
) -> Outcome:
    connection = protocol(package, max_size, deflate)
    messages: list[Message] = []
    for chunk in chunks:
        connection.receive_data(chunk)
        messages += take(connection)
    assert connection.backlog() == 0 or connection.state == OPEN
    state, code, reason = connection.state, connection.close_code, connection.close_reason
    return Outcome(messages, sent(connection), state, code, reason)


def failure(package: ModuleType, *frames: bytes, **options: Any) -> tuple[list[Message], int]:
    """The messages before and the close code of a connection that must have been failed.

    The peer must have been told (section 7.1.7): the code stands in the last frame sent.
    """
    outcome = run(package, [b"".join(frames)], **options)
    assert outcome.state == FAILED
    first, payload = outcome.sent[-1]
    assert (first, int.from_bytes(payload[:2], "big")) == (0x88, outcome.code)
    assert payload[2:].decode() == outcome.reason != ""
    return outcome.messages, outcome.code


class TestMessages:
    """Section 5.4 and 5.6."""

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
    def test_text_and_binary_of_every_length(self, package: ModuleType, size: int) -> None:
        connection = protocol(package)
        for opcode, message in (TEXT, "x" * size), (BINARY, b"x" * size):
            connection.receive_data(client_frame(opcode, b"x" * size))
            assert take(connection) == [message]
            assert connection.size == size
            assert connection.state == OPEN

    @pytest.mark.parametrize("size", [4095, 4096, 16383, 16384, 16385, 65536, 200_001])
    @pytest.mark.parametrize("step", [1009, 8192, 65_537])
    def test_a_large_message_may_come_in_pieces(
        self, package: ModuleType, size: int, step: int
    ) -> None:
        text = ("aé€😀" * (size // 4 + 1))[:size]
        octets = random.Random(size).randbytes(size)
        data = client_frame(TEXT, b"before") + client_frame(TEXT, text.encode())
        data += client_frame(BINARY, octets, fin=False) + client_frame(PING, b"?")
        data += client_frame(CONT, octets) + client_frame(BINARY, octets) + client_frame(TEXT)
        chunks = [data[start : start + step] for start in range(0, len(data), step)]
        outcome = run(package, chunks)
        assert outcome.messages == ["before", text, octets * 2, octets, ""]
        assert outcome.sent == [(0x8A, b"?")]

    def test_text_is_str_and_binary_is_bytes(self, package: ModuleType) -> None:
        data = client_frame(TEXT, "zwölf €".encode()) + client_frame(BINARY, b"\xff\0")
        assert run(package, [data]).messages == ["zwölf €", b"\xff\0"]
        parts = client_frame(BINARY, b"\xff", fin=False) + client_frame(CONT, b"\0")
        (message,) = run(package, [parts]).messages
        assert type(message) is bytes

    def test_the_size_of_a_text_is_that_of_its_utf_8(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.receive_data(client_frame(TEXT, "€".encode()))
        connection.receive_data(client_frame(TEXT, "€".encode(), fin=False))
        connection.receive_data(client_frame(CONT, "é".encode()))
        assert connection.next_message() == "€"
        assert connection.size == 3
        assert connection.next_message() == "€é"
        assert connection.size == 5

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_fragments_make_one_message(self, package: ModuleType, opcode: int) -> None:
        parts = [b"", b"Hel", b"", b"lo", b""]
        data = client_frame(opcode, parts[0], fin=False)
        data += b"".join(client_frame(CONT, part, fin=False) for part in parts[1:-1])
        data += client_frame(CONT, parts[-1])
        expected = ["Hello" if opcode == TEXT else b"Hello"]
        for chunks in cuts(data):
            assert run(package, chunks).messages == expected

    def test_the_vector_of_a_fragmented_masked_message(self, package: ModuleType) -> None:
        data = client_frame(TEXT, b"Hel", fin=False) + client_frame(CONT, b"lo")
        assert run(package, [data]).messages == ["Hello"]

    def test_a_message_may_be_nothing_but_empty_fragments(self, package: ModuleType) -> None:
        data = client_frame(TEXT, fin=False) + client_frame(CONT, fin=False) + client_frame(CONT)
        assert run(package, [data]).messages == [""]
        data = client_frame(BINARY, fin=False) + client_frame(CONT)
        assert run(package, [data]).messages == [b""]

    def test_control_frames_may_stand_between_fragments(self, package: ModuleType) -> None:
        data = (
            client_frame(TEXT, b"one, ", fin=False)
            + client_frame(PING, b"a")
            + client_frame(CONT, b"two, ", fin=False)
            + client_frame(PONG, b"b")
            + client_frame(PING, b"c")
            + client_frame(CONT, b"three")
        )
        for chunks in cuts(data):
            outcome = run(package, chunks)
            assert outcome.messages == ["one, two, three"]
            assert outcome.sent == [(0x8A, b"a"), (0x8A, b"c")]

    def test_messages_follow_one_another_in_one_chunk(self, package: ModuleType) -> None:
        data = (
            client_frame(TEXT, b"a")
            + client_frame(BINARY, b"b", fin=False)
            + client_frame(CONT, b"c")
            + client_frame(TEXT, b"d")
        )
        assert run(package, [data]).messages == ["a", b"bc", "d"]

    def test_one_message_is_given_at_a_time(self, package: ModuleType) -> None:
        connection = protocol(package)
        frame = client_frame(TEXT, b"a")
        connection.receive_data(frame * 3 + frame[:3])
        for left in 2, 1, 0:
            assert connection.next_message() == "a"
            assert connection.backlog() == left * len(frame) + 3
        assert connection.next_message() is None
        assert connection.backlog() == 3

    def test_a_continuation_needs_a_message(self, package: ModuleType) -> None:
        for fin in True, False:
            for payload in b"", b"x":
                frame = client_frame(CONT, payload, fin=fin)
                assert failure(package, frame) == ([], 1002)
                before = client_frame(TEXT, b"a", fin=False) + client_frame(CONT, b"b")
                assert failure(package, before, frame) == (["ab"], 1002)
                assert failure(package, client_frame(TEXT, b"a"), frame) == (["a"], 1002)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_no_message_begins_inside_another(self, package: ModuleType, opcode: int) -> None:
        for fin in True, False:
            for first in TEXT, BINARY:
                start = client_frame(first, b"a", fin=False)
                frame = client_frame(opcode, b"b", fin=fin)
                assert failure(package, start, frame) == ([], 1002)

    def test_nothing_behind_a_failure_is_parsed(self, package: ModuleType) -> None:
        frames = client_frame(TEXT, b"good"), client_frame(3), client_frame(TEXT, b"late")
        for chunks in cuts(b"".join(frames)):
            outcome = run(package, chunks)
            assert outcome.messages == ["good"]
            assert len(outcome.sent) == 1

    def test_a_bad_frame_fails_the_connection_with_its_code(self, package: ModuleType) -> None:
        assert failure(package, client_frame(TEXT, b"x", rsv=4)) == ([], 1002)
        assert failure(package, b"\x81\x05Hello") == ([], 1002)
        assert failure(package, client_frame(BINARY, bytes(11)), max_size=10) == ([], 1009)


VALID_UTF_8 = [
    "κόσμε",
    "\0",
    "\x7f\x80߿ࠀ￿\U00010000",
    "\ud7ff\ue000\ufffd\U0010ffff",
    "Hello-µ@ßöäüàá-UTF-8!!",
]
INVALID_UTF_8 = [
    (b"\x80", 0),
    (b"\xbf", 0),
    (b"\xc0\xaf", 0),  # an overlong slash
    (b"\xc1\xbf", 0),
    (b"\xe0\x80\xaf", 1),
    (b"\xe0\x9f\xbf", 1),
    (b"\xed\xa0\x80", 1),  # surrogates
    (b"\xed\xbf\xbf", 1),
    (b"\xf0\x80\x80\xaf", 1),
    (b"\xf0\x8f\xbf\xbf", 1),
    (b"\xf4\x90\x80\x80", 1),  # beyond U+10FFFF
    (b"\xf5\x80\x80\x80", 0),
    (b"\xf8\x88\x80\x80\x80", 0),
    (b"\xfe", 0),
    (b"\xff", 0),
    (b"\xc3\x28", 1),
    (b"\xe2\x82\x28", 2),
    (b"\xf0\x9f\x98\x28", 3),
    (b"\xcf\x28", 1),
]


class TestFilling:
    """Large messages in one frame are written into their place by whoever reads the socket."""

    @staticmethod
    def head(size: int, opcode: int = BINARY, **fields: Any) -> bytes:
        frame = client_frame(opcode, b"?" * size, key=b"\0\0\0\0", **fields)
        return frame[: len(frame) - size]

    @pytest.mark.parametrize("before", [b"", client_frame(TEXT, fin=False) + client_frame(CONT)])
    def test_from_16_kib_on_there_is_room_for_what_comes(
        self, package: ModuleType, before: bytes
    ) -> None:
        for size in 16_384, 16_385, 65_536:
            connection = protocol(package)
            connection.receive_data(before + self.head(size))
            assert len(take(connection)) == bool(before)
            room = connection.room()
            assert len(room) == size
            room[:100] = b"x" * 100
            del room
            connection.filled(100)
            assert connection.next_message() is None
            room = connection.room()
            room[:] = b"y" * (size - 100)
            del room
            connection.filled(size - 100)
            assert connection.next_message() == b"x" * 100 + b"y" * (size - 100)
            assert connection.size == size
            assert connection.room() is None

    def test_what_was_written_is_unmasked_and_checked(self, package: ModuleType) -> None:
        text = "aé€😀" * 3000
        frame = client_frame(TEXT, text.encode())
        connection = protocol(package)
        connection.receive_data(frame[:1001])
        assert connection.next_message() is None
        for start in range(1001, len(frame), 997):
            piece = frame[start : start + 997]
            connection.room()[: len(piece)] = piece
            connection.filled(len(piece))
            message = connection.next_message()
        assert message == text
        bad = client_frame(TEXT, b"x" * 20_000 + b"\xff" + b"x" * 20_000)
        connection.receive_data(bad[:10_000])
        assert connection.next_message() is None
        connection.room()[:20_000] = bad[10_000:30_000]
        connection.filled(20_000)
        assert connection.next_message() is None
        assert (connection.state, connection.close_code) == (FAILED, 1007)
        assert connection.room() is None

    def test_memory_grows_with_what_has_come(self, package: ModuleType) -> None:
        connection = protocol(package, max_size=1 << 30)
        connection.receive_data(self.head(20_000_000))
        assert connection.next_message() is None
        filled = 0
        first = package.wire.filling.AT_FIRST
        assert len(connection.room()) == first
        while filled < 20_000_000:
            room = len(connection.room())
            assert room <= max(filled, first)
            connection.filled(room)
            filled += room
        assert len(connection.next_message()) == 20_000_000

    def test_other_frames_have_no_room(self, package: ModuleType) -> None:
        for data in (
            b"",
            self.head(16_383),
            self.head(20_000, fin=False),
            client_frame(BINARY, fin=False) + self.head(20_000, CONT),
            self.head(20_000)[:-1],
        ):
            connection = protocol(package)
            connection.receive_data(data)
            assert connection.next_message() is None
            assert connection.room() is None
        connection = protocol(package, deflate=True)
        connection.receive_data(self.head(20_000, rsv=4))
        assert connection.next_message() is None
        assert connection.room() is None

    def test_a_large_frame_in_the_wrong_place_fails_at_its_header(
        self, package: ModuleType
    ) -> None:
        for opcode in TEXT, BINARY:
            start = client_frame(BINARY, b"a", fin=False)
            assert failure(package, start, self.head(20_000, opcode)) == ([], 1002)
        assert failure(package, self.head(20_000, CONT)) == ([], 1002)

    def test_pieces_of_a_message_are_noticed_unless_they_are_empty(
        self, package: ModuleType
    ) -> None:
        connection = protocol(package)
        large = client_frame(BINARY, bytes(50_000))
        arrived = connection.arrived()
        for data, change in (
            (client_frame(PING), False),
            (client_frame(TEXT, b"", fin=False), False),
            (client_frame(CONT, b"", fin=False), False),
            (client_frame(CONT, b"b", fin=False), True),
            (client_frame(PING), False),
            (client_frame(CONT, b"c"), True),
            (large[:100], True),
            (large[100:30_000], True),
            (large[30_000:], True),
            (client_frame(PING), False),
            (client_frame(BINARY, bytes(200))[:50], True),
        ):
            connection.receive_data(data)
            take(connection)
            assert (connection.arrived() != arrived) == change
            arrived = connection.arrived()


class TestUTF8:
    """Section 8.1."""

    @pytest.mark.parametrize("text", VALID_UTF_8)
    def test_code_points_may_be_cut_by_reads_and_by_fragments(
        self, package: ModuleType, text: str
    ) -> None:
        octets = text.encode()
        for chunks in cuts(client_frame(TEXT, octets)):
            assert run(package, chunks).messages == [text]
        for place in range(len(octets) + 1):
            data = client_frame(TEXT, octets[:place], fin=False) + client_frame(
                CONT, octets[place:]
            )
            assert run(package, [data]).messages == [text]
            assert run(package, [bytes([octet]) for octet in data]).messages == [text]

    @pytest.mark.parametrize(("bad", "place"), INVALID_UTF_8)
    def test_invalid_text_fails_with_1007(
        self, package: ModuleType, bad: bytes, place: int
    ) -> None:
        for before in b"", "good: κόσμε".encode():
            for after in b"", b" and more":
                payload = before + bad + after
                assert failure(package, client_frame(TEXT, payload)) == ([], 1007)
                for cut in range(len(payload) + 1):
                    start = client_frame(TEXT, payload[:cut], fin=False)
                    rest = client_frame(CONT, payload[cut:])
                    assert failure(package, start, rest) == ([], 1007)

    @pytest.mark.parametrize(("bad", "place"), INVALID_UTF_8)
    def test_invalid_text_fails_with_the_octet_that_makes_it_so(
        self, package: ModuleType, bad: bytes, place: int
    ) -> None:
        payload = b"abc" + bad
        head = client_frame(TEXT, payload + bytes(1000))[:-1000]
        for fragmented in False, True:
            connection = protocol(package)
            if fragmented:
                octets = [client_frame(TEXT, fin=False)]
                octets += [client_frame(CONT, bytes([octet]), fin=False) for octet in payload]
                known = 1
            else:
                octets = [bytes([octet]) for octet in head]
                known = len(head) - len(payload)
            for chunk in octets[: known + 3 + place]:
                connection.receive_data(chunk)
                assert connection.next_message() is None
                assert connection.state == OPEN
            connection.receive_data(octets[known + 3 + place])
            assert connection.next_message() is None
            assert (connection.state, connection.close_code) == (FAILED, 1007)

    @pytest.mark.parametrize("size", [15_000, 50_000, 300_000])
    def test_a_large_text_fails_before_it_has_come(self, package: ModuleType, size: int) -> None:
        frame = client_frame(TEXT, b"x" * 10_000 + b"\xff" + b"x" * (size - 10_001))
        connection = protocol(package)
        for start in range(0, 11_000, 1000):
            assert connection.state == OPEN
            connection.receive_data(frame[start : start + 1000])
            assert connection.next_message() is None
        assert (connection.state, connection.close_code) == (FAILED, 1007)

    @pytest.mark.parametrize("end", [b"\xce", b"\xe2\x82", b"\xf0\x9f\x98"])
    def test_a_text_must_not_end_within_a_code_point(self, package: ModuleType, end: bytes) -> None:
        assert failure(package, client_frame(TEXT, b"abc" + end)) == ([], 1007)
        parts = client_frame(TEXT, b"abc", fin=False), client_frame(CONT, end)
        assert failure(package, *parts) == ([], 1007)
        parts = client_frame(TEXT, b"abc" + end, fin=False), client_frame(CONT)
        assert failure(package, *parts) == ([], 1007)
        for chunks in cuts(client_frame(TEXT, b"abc" + end)):
            assert run(package, chunks).code == 1007
        large = client_frame(TEXT, b"x" * 30_000 + end)
        for place in 20_000, len(large) - 1, len(large):
            assert run(package, [large[:place], large[place:]]).code == 1007

    def test_binary_is_not_validated(self, package: ModuleType) -> None:
        for bad, _ in INVALID_UTF_8:
            parts = client_frame(BINARY, bad[:1], fin=False), client_frame(CONT, bad[1:])
            data = client_frame(BINARY, bad) + b"".join(parts)
            assert run(package, [data]).messages == [bad, bad]

    def test_each_message_is_validated_anew(self, package: ModuleType) -> None:
        euro = "€".encode()
        parts = client_frame(TEXT, euro[:1], fin=False), client_frame(CONT, euro[1:])
        assert run(package, [b"".join(parts) * 3]).messages == ["€"] * 3
        assert failure(package, *parts, client_frame(TEXT, euro[1:], fin=False)) == (["€"], 1007)


class TestPings:
    """Sections 5.5.2 and 5.5.3."""

    @pytest.mark.parametrize("payload", [b"", b"\0", b"Hello", bytes(range(125))])
    def test_a_ping_is_answered_with_its_payload(self, package: ModuleType, payload: bytes) -> None:
        for chunks in cuts(client_frame(PING, payload)):
            outcome = run(package, chunks)
            assert outcome.sent == [(0x8A, payload)]
            assert (outcome.messages, outcome.state) == ([], OPEN)

    def test_pings_are_answered_one_by_one_and_in_order(self, package: ModuleType) -> None:
        data = b"".join(client_frame(PING, b"%d" % number) for number in range(10))
        assert run(package, [data]).sent == [(0x8A, b"%d" % number) for number in range(10)]

    def test_a_pong_is_noted_and_not_answered(self, package: ModuleType) -> None:
        connection = protocol(package)
        assert connection.pong is None
        for payload in b"one", b"two", b"":
            connection.receive_data(client_frame(PONG, payload))
            assert connection.next_message() is None
            assert connection.pong == payload
        assert sent(connection) == []

    def test_while_pongs_are_held_only_the_latest_ping_is_kept(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.hold_pongs = True
        for number in range(1000):
            connection.receive_data(client_frame(PING, b"%d" % number))
            assert connection.next_message() is None
        assert sent(connection) == []
        connection.release_pongs()
        assert sent(connection) == [(0x8A, b"999")]
        assert not connection.hold_pongs
        connection.release_pongs()
        assert sent(connection) == []
        connection.receive_data(client_frame(PING, b"next"))
        assert connection.next_message() is None
        assert sent(connection) == [(0x8A, b"next")]

    def test_an_empty_ping_is_held_too(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.hold_pongs = True
        connection.receive_data(client_frame(PING))
        assert connection.next_message() is None
        connection.release_pongs()
        assert sent(connection) == [(0x8A, b"")]

    def test_a_ping_behind_our_close_frame_is_answered(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.close(1000)
        connection.receive_data(client_frame(PING, b"still here?"))
        assert connection.next_message() is None
        assert sent(connection) == [(0x88, b"\x03\xe8"), (0x8A, b"still here?")]

    def test_no_pong_follows_the_peers_close_frame(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.hold_pongs = True
        connection.receive_data(client_frame(PING, b"a") + close_frame(1000))
        connection.receive_data(client_frame(PING, b"b"))
        assert connection.next_message() is None
        connection.release_pongs()
        assert sent(connection) == [(0x88, b"\x03\xe8")]

    def test_no_pong_follows_a_failure(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.hold_pongs = True
        connection.receive_data(client_frame(PING, b"a") + client_frame(3))
        assert connection.next_message() is None
        connection.release_pongs()
        assert [first for first, _ in sent(connection)] == [0x88]


VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]
VALID_CODES += [3000, 3001, 3999, 4000, 4242, 4999]
INVALID_CODES = [0, 1, 125, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999]
INVALID_CODES += [5000, 5001, 10000, 65535]


class TestPeerCloses:
    """Sections 5.5.1, 7.1.5, 7.1.6 and 7.4."""

    def test_a_close_frame_without_a_code_is_1005_and_answered_alike(
        self, package: ModuleType
    ) -> None:
        for chunks in cuts(close_frame()):
            assert run(package, chunks) == Outcome([], [(0x88, b"")], CLOSED, 1005, "")

    @pytest.mark.parametrize("code", VALID_CODES)
    def test_a_code_is_echoed_and_the_reason_kept(self, package: ModuleType, code: int) -> None:
        for reason in "", "bye", "auf Wiedersehen, Größe €", "x" * 123:
            data = close_frame(code, reason.encode())
            echoed = code.to_bytes(2, "big") + reason.encode()
            expected = Outcome([], [(0x88, echoed)], CLOSED, code, reason)
            assert run(package, [data]) == expected
            assert run(package, [bytes([octet]) for octet in data]) == expected

    @pytest.mark.parametrize("code", INVALID_CODES)
    def test_a_code_that_may_not_be_sent_is_a_protocol_error(
        self, package: ModuleType, code: int
    ) -> None:
        for reason in b"", b"bye":
            assert failure(package, close_frame(code, reason)) == ([], 1002)

    def test_every_code_is_judged(self, package: ModuleType) -> None:
        wire = package.wire
        judged = {code for code in range(65536) if wire.errors.may_be_sent(code)}
        expected = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
        assert judged == expected

    def test_codes_have_the_numbers_of_the_registry(self, package: ModuleType) -> None:
        errors = package.wire.errors
        assert {name: value for name, value in vars(errors).items() if type(value) is int} == {
            "NORMAL_CLOSURE": 1000,
            "GOING_AWAY": 1001,
            "PROTOCOL_ERROR": 1002,
            "UNSUPPORTED_DATA": 1003,
            "NO_STATUS_RECEIVED": 1005,
            "ABNORMAL_CLOSURE": 1006,
            "INVALID_DATA": 1007,
            "POLICY_VIOLATION": 1008,
            "MESSAGE_TOO_BIG": 1009,
            "INTERNAL_ERROR": 1011,
            "SERVICE_RESTART": 1012,
            "TRY_AGAIN_LATER": 1013,
        }

    def test_half_a_code_is_a_protocol_error(self, package: ModuleType) -> None:
        assert failure(package, client_frame(CLOSE, b"\x03")) == ([], 1002)

    @pytest.mark.parametrize("bad", [bad for bad, _ in INVALID_UTF_8] + [b"\xe2\x82"])
    def test_a_reason_must_be_utf_8(self, package: ModuleType, bad: bytes) -> None:
        assert failure(package, close_frame(1000, b"because " + bad)) == ([], 1007)

    def test_nothing_behind_a_close_frame_is_read(self, package: ModuleType) -> None:
        late = client_frame(TEXT, b"late") + client_frame(PING) + close_frame(1001) + b"\xff" * 9
        data = client_frame(TEXT, b"good") + close_frame(1000, b"bye")
        expected = Outcome(["good"], [(0x88, b"\x03\xe8bye")], CLOSED, 1000, "bye")
        for chunks in cuts(data + late):
            assert run(package, chunks) == expected

    def test_bytes_behind_a_close_frame_are_not_kept(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.receive_data(close_frame(1000) + bytes(100))
        assert connection.next_message() is None
        assert connection.backlog() == 0
        connection.receive_data(bytes(1000))
        assert connection.backlog() == 0
        assert connection.next_message() is None

    def test_a_close_may_come_inside_a_message(self, package: ModuleType) -> None:
        data = client_frame(TEXT, b"half", fin=False) + close_frame(1001, b"off")
        expected = Outcome([], [(0x88, b"\x03\xe9off")], CLOSED, 1001, "off")
        assert run(package, [data]) == expected


class TestWeClose:
    """Section 7.1.2 and 7.1.3."""

    @pytest.mark.parametrize("code", VALID_CODES)
    def test_our_close_frame_carries_code_and_reason(self, package: ModuleType, code: int) -> None:
        connection = protocol(package)
        connection.close(code, "Größe")
        payload = code.to_bytes(2, "big") + "Größe".encode()
        assert sent(connection) == [(0x88, payload)]
        assert connection.state == CLOSE_SENT

    def test_a_close_without_a_code_is_an_empty_frame(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.close(1005)
        assert sent(connection) == [(0x88, b"")]

    def test_a_reason_too_long_is_cut_on_a_character_boundary(self, package: ModuleType) -> None:
        close_payload = package.wire.protocol.close_payload
        assert close_payload(1000, "x" * 123) == b"\x03\xe8" + b"x" * 123
        assert close_payload(1000, "x" * 124) == b"\x03\xe8" + b"x" * 123
        assert close_payload(1000, "x" * 122 + "é") == b"\x03\xe8" + b"x" * 122
        assert close_payload(1000, "x" * 121 + "é") == b"\x03\xe8" + b"x" * 121 + b"\xc3\xa9"
        assert close_payload(1000, "😀" * 31) == b"\x03\xe8" + "😀".encode() * 30
        assert close_payload(1000, "") == b"\x03\xe8"

    def test_we_close_once(self, package: ModuleType) -> None:
        connection = protocol(package)
        connection.close(1000, "first")
        connection.close(1001, "second")
        assert sent(connection) == [(0x88, b"\x03\xe8first")]
        connection.receive_data(close_frame(1000))
        assert connection.next_message() is None
        connection.close(1001, "third")
        assert sent(connection) == []
        assert connection.state == CLOSED

    @pytest.mark.parametrize("size", [0, 4, 200, 20_000, 70_000])
    def test_data_behind_our_close_are_skipped_and_control_frames_obeyed(
        self, package: ModuleType, size: int
    ) -> None:
        late = client_frame(TEXT, b"\xff" * size) + client_frame(BINARY, bytes(size), fin=False)
        late += client_frame(PING, b"are you there?") + client_frame(CONT, bytes(size))
        for step in 1, 7, 1000, 1 << 20:
            if size > 1000 and step < 100:
                continue
            connection = protocol(package)
            connection.receive_data(client_frame(TEXT, b"half", fin=False))
            assert take(connection) == []
            connection.close(1000)
            data = late + close_frame(4000, b"mine")
            for start in range(0, len(data), step):
                connection.receive_data(data[start : start + step])
                assert take(connection) == []
                assert connection.backlog() < 200
            assert connection.state == CLOSED
            assert (connection.close_code, connection.close_reason) == (4000, "mine")
            assert sent(connection) == [(0x88, b"\x03\xe8"), (0x8A, b"are you there?")]

    def test_a_payload_that_is_being_filled_is_skipped_too(self, package: ModuleType) -> None:
        connection = protocol(package)
        data = client_frame(BINARY, bytes(100_000))
        connection.receive_data(data[:50_000])
        assert connection.next_message() is None
        assert connection.room() is not None
        connection.close(1000)
        assert connection.room() is None
        connection.receive_data(data[50_000:] + close_frame(1000))
        assert connection.next_message() is None
        assert connection.state == CLOSED

    @pytest.mark.parametrize(
        "bad", [client_frame(3), b"\x81\x01x", close_frame(999), close_frame(1005)]
    )
    def test_a_failure_behind_our_close_sends_no_second_close_frame(
        self, package: ModuleType, bad: bytes
    ) -> None:
        connection = protocol(package)
        connection.close(1000)
        connection.receive_data(bad)
        assert connection.next_message() is None
        assert connection.state == FAILED
        assert sent(connection) == [(0x88, b"\x03\xe8")]

    def test_we_do_not_close_after_a_failure_or_the_peers_close(self, package: ModuleType) -> None:
        for data, state in (client_frame(3), FAILED), (close_frame(1000), CLOSED):
            connection = protocol(package)
            connection.receive_data(data)
            assert connection.next_message() is None
            assert len(sent(connection)) == 1
            connection.close(1000)
            assert sent(connection) == []
            assert connection.state == state


class TestTransitions:
    """The table: every state meets every event."""

    def test_the_table_is_whole(self, package: ModuleType) -> None:
        protocol = package.wire.protocol
        states = protocol.OPEN, protocol.CLOSE_SENT, protocol.CLOSED, protocol.FAILED
        events = protocol.SEND_CLOSE, protocol.RECEIVE_CLOSE, protocol.FAIL
        assert states == (OPEN, CLOSE_SENT, CLOSED, FAILED)
        assert set(protocol.TRANSITIONS) == set(itertools.product(states, events))

    def test_one_close_frame_is_sent_on_every_path(self, package: ModuleType) -> None:
        table = package.wire.protocol.TRANSITIONS
        for events in itertools.product(range(3), repeat=5):
            state, sent = OPEN, 0
            for event in events:
                state, sends = table[state, event]
                sent += sends
            assert sent == 1

    def test_there_is_no_way_back(self, package: ModuleType) -> None:
        for (state, _), (after, _) in package.wire.protocol.TRANSITIONS.items():
            assert after >= state
            if state in (CLOSED, FAILED):
                assert after == state

    @pytest.mark.parametrize("steps", [*itertools.product(("close", "peer", "bad"), repeat=3)])
    def test_what_happens_is_what_the_table_says(
        self, package: ModuleType, steps: tuple[str, ...]
    ) -> None:
        connection = protocol(package)
        expected, close_frames = OPEN, 0
        for step in steps:
            if step == "close":
                connection.close(1000)
            else:
                connection.receive_data(close_frame(1000) if step == "peer" else client_frame(3))
                assert connection.next_message() is None
            event = ("close", "peer", "bad").index(step)
            expected, sends = package.wire.protocol.TRANSITIONS[expected, event]
            close_frames += sends
            assert connection.state == expected
        assert len(sent(connection)) == close_frames


class TestLimits:
    """``max_size`` holds for whole messages, before their bytes are there."""

    def test_fragments_count_together(self, package: ModuleType) -> None:
        start, rest = client_frame(BINARY, bytes(6), fin=False), client_frame(CONT, bytes(4))
        assert run(package, [start + rest], max_size=10).messages == [bytes(10)]
        assert failure(package, start, rest, max_size=9) == ([], 1009)

    def test_a_declared_length_counts_before_its_bytes_come(self, package: ModuleType) -> None:
        start = client_frame(BINARY, bytes(6), fin=False)
        good, bad = client_frame(CONT, bytes(4))[:2], client_frame(CONT, bytes(5))[:2]
        assert run(package, [start + good], max_size=10).state == OPEN
        assert failure(package, start, bad, max_size=10) == ([], 1009)
        good, bad = client_frame(CONT, bytes(1999))[:4], client_frame(CONT, bytes(2000))[:4]
        assert run(package, [start + good], max_size=2005).state == OPEN
        assert failure(package, start, bad, max_size=2005) == ([], 1009)

    def test_each_message_has_the_whole_limit(self, package: ModuleType) -> None:
        data = client_frame(BINARY, bytes(6), fin=False) + client_frame(CONT, bytes(4))
        data += client_frame(BINARY, bytes(10))
        assert run(package, [data * 3], max_size=10).messages == [bytes(10)] * 6

    def test_a_control_frame_inside_a_full_message_passes(self, package: ModuleType) -> None:
        data = client_frame(BINARY, bytes(10), fin=False)
        data += client_frame(PING, bytes(100)) + client_frame(CONT)
        outcome = run(package, [data], max_size=10)
        assert outcome.messages == [bytes(10)]
        assert outcome.sent == [(0x8A, bytes(100))]

    def test_the_fragments_of_a_message_are_capped(self, package: ModuleType) -> None:
        cap = package.wire.protocol.MAX_FRAGMENTS
        assert cap == 131_072
        middle = client_frame(CONT, fin=False)
        good = client_frame(TEXT, fin=False) + middle * (cap - 2) + client_frame(CONT)
        assert run(package, [good * 2]).messages == ["", ""]
        bad = client_frame(TEXT, fin=False) + middle * (cap - 1) + client_frame(CONT)
        assert failure(package, bad) == ([], 1009)

    def test_a_cut_frame_is_one_fragment(self, package: ModuleType) -> None:
        connection = protocol(package)
        cap = package.wire.protocol.MAX_FRAGMENTS
        data = client_frame(BINARY, bytes(cap + 10), key=b"\0\0\0\0")
        connection.receive_data(data[:14])
        assert connection.next_message() is None
        zero = data[20:21]
        for _ in range(cap + 9):
            connection.receive_data(zero)
            assert connection.next_message() is None
        connection.receive_data(zero)
        assert connection.next_message() == bytes(cap + 10)

    def test_many_tiny_fragments_cost_little_more_than_their_payload(
        self, package: ModuleType
    ) -> None:
        connection = protocol(package)
        chunk = client_frame(CONT, b"xx", fin=False) * 1000
        connection.receive_data(client_frame(TEXT, b"xx", fin=False))
        assert connection.next_message() is None
        tracemalloc.start()
        try:
            for _ in range(25):
                connection.receive_data(bytes(bytearray(chunk)))
                assert connection.next_message() is None
            assert tracemalloc.get_traced_memory()[1] < 4 * 50_000
        finally:
            tracemalloc.stop()
        connection.receive_data(client_frame(CONT))
        assert connection.next_message() == "xx" * 25_001

    def test_a_failed_connection_lets_go_of_its_message(self, package: ModuleType) -> None:
        tracemalloc.start()
        try:
            connection = protocol(package)
            connection.receive_data(client_frame(BINARY, bytes(100_000), fin=False))
            assert connection.next_message() is None
            connection.receive_data(client_frame(3))
            assert connection.next_message() is None
            assert connection.state == FAILED
            assert tracemalloc.get_traced_memory()[0] < 50_000
        finally:
            tracemalloc.stop()


@pytest.mark.usefixtures("library")
class TestDeflate:
    """RFC 7692 section 6 and 7: messages with RSV1."""

    def test_the_vector_of_a_compressed_hello(self, package: ModuleType) -> None:
        frame = client_frame(TEXT, bytes.fromhex("f2 48 cd c9 c9 07 00"), rsv=4)
        for chunks in cuts(frame):
            assert run(package, chunks, deflate=True).messages == ["Hello"]

    def test_the_vector_of_a_compressed_hello_in_fragments(self, package: ModuleType) -> None:
        data = client_frame(TEXT, bytes.fromhex("f2 48 cd"), rsv=4, fin=False)
        data += client_frame(PING, b"?") + client_frame(CONT, bytes.fromhex("c9 c9 07 00"))
        for chunks in cuts(data):
            outcome = run(package, chunks, deflate=True)
            assert (outcome.messages, outcome.sent) == (["Hello"], [(0x8A, b"?")])

    def test_the_window_is_shared_by_messages(self, package: ModuleType) -> None:
        data = client_frame(TEXT, bytes.fromhex("f2 48 cd c9 c9 07 00"), rsv=4)
        data += client_frame(TEXT, bytes.fromhex("f2 00 11 00 00"), rsv=4)
        assert run(package, [data], deflate=True).messages == ["Hello", "Hello"]

    def test_a_message_may_go_uncompressed(self, package: ModuleType) -> None:
        data = client_frame(TEXT, b"plain") + client_frame(TEXT, deflated(b"Hello"), rsv=4)
        data += client_frame(BINARY, b"also ", fin=False) + client_frame(CONT, b"plain")
        data += client_frame(BINARY, deflated(b"bytes"), rsv=4)
        expected = ["plain", "Hello", b"also plain", b"bytes"]
        for chunks in cuts(data):
            assert run(package, chunks, deflate=True).messages == expected

    @pytest.mark.parametrize("opcode", [CONT, CLOSE, PING, PONG])
    def test_rsv1_stands_on_the_first_data_frame_only(
        self, package: ModuleType, opcode: int
    ) -> None:
        start = client_frame(TEXT, deflated(b"Hello"), rsv=4, fin=False)
        frame = client_frame(opcode, b"", rsv=4)
        assert failure(package, start, frame, deflate=True) == ([], 1002)

    def test_rsv1_needs_the_extension(self, package: ModuleType) -> None:
        assert failure(package, client_frame(TEXT, deflated(b"Hello"), rsv=4)) == ([], 1002)

    def test_the_size_is_that_of_the_inflated_payload(self, package: ModuleType) -> None:
        connection = protocol(package, deflate=True)
        connection.receive_data(client_frame(TEXT, deflated(b"a" * 1000), rsv=4))
        assert connection.next_message() == "a" * 1000
        assert connection.size == 1000

    def test_what_is_inflated_must_be_utf_8(self, package: ModuleType) -> None:
        bad = client_frame(TEXT, deflated(b"abc\xff"), rsv=4)
        assert failure(package, bad, deflate=True) == ([], 1007)
        end = client_frame(TEXT, deflated(b"abc\xe2\x82"), rsv=4)
        assert failure(package, end, deflate=True) == ([], 1007)
        data = client_frame(BINARY, deflated(b"abc\xff"), rsv=4)
        assert run(package, [data], deflate=True).messages == [b"abc\xff"]

    def test_invalid_inflated_text_fails_before_its_message_ends(self, package: ModuleType) -> None:
        start = client_frame(TEXT, deflated(b"abc\xff" + b"x" * 500), rsv=4, fin=False)
        assert failure(package, start, deflate=True) == ([], 1007)

    @pytest.mark.parametrize("bad", [b"\x07", b"\xff\xff\xff", b"\x04\xff\xff\xff\xff"])
    def test_what_is_no_deflate_stream_fails_with_1007(
        self, package: ModuleType, bad: bytes
    ) -> None:
        for opcode in TEXT, BINARY:
            assert failure(package, client_frame(opcode, bad, rsv=4), deflate=True) == ([], 1007)

    def test_inflated_bytes_count(self, package: ModuleType) -> None:
        data = client_frame(BINARY, deflated(bytes(1000)), rsv=4)
        assert run(package, [data], max_size=1000, deflate=True).messages == [bytes(1000)]
        assert failure(package, data, max_size=999, deflate=True) == ([], 1009)

    def test_a_bomb_is_never_inflated_whole(self, package: ModuleType) -> None:
        bomb = deflated(bytes(20_000_000))
        assert len(bomb) < 24_000
        third = len(bomb) // 3
        whole = client_frame(BINARY, bomb, rsv=4)
        parts = client_frame(BINARY, bomb[:third], rsv=4, fin=False)
        parts += client_frame(CONT, bomb[third:])
        for chunks in [whole], [parts], [parts[i : i + 100] for i in range(0, len(parts), 100)]:
            tracemalloc.start()
            try:
                outcome = run(package, chunks, max_size=1_000_000, deflate=True)
                assert outcome.code == 1009
                assert tracemalloc.get_traced_memory()[1] < 2_500_000
            finally:
                tracemalloc.stop()

    def test_a_bomb_may_hide_behind_a_good_fragment(self, package: ModuleType) -> None:
        payload = deflated(bytes(100_000))
        start = client_frame(BINARY, payload[:-4], rsv=4, fin=False)
        rest = client_frame(CONT, payload[-4:])
        outcome = run(package, [start + rest], max_size=100_000, deflate=True)
        assert outcome.messages == [bytes(100_000)]
        assert failure(package, start, rest, max_size=99_999, deflate=True) == ([], 1009)


payloads = st.binary(max_size=10) | st.text(max_size=10).map(str.encode) | st.just(b"x" * 200)
frames_strategy = st.lists(
    st.builds(
        client_frame,
        st.sampled_from([TEXT, BINARY, CONT, CONT, PING, PONG, CLOSE]),
        payloads,
        fin=st.sampled_from([True, True, False]),
        rsv=st.sampled_from([0, 0, 0, 4]),
    )
    | st.builds(
        lambda opcode, payload: client_frame(opcode, deflated(payload), rsv=4),
        st.sampled_from([TEXT, BINARY]),
        payloads,
    )
    | st.builds(close_frame, st.sampled_from([1000, 1005, 3000, None]), payloads),
    max_size=8,
).map(b"".join)


@given(frames_strategy, st.lists(st.integers(0, 2000)), st.booleans())
def test_any_split_gives_the_same_outcome_in_both_builds(
    data: bytes, places: list[int], deflate: bool
) -> None:
    outcomes = [
        run(package, chunks, max_size=300, deflate=deflate)
        for package in BUILDS.values()
        for chunks in ([data], split(data, places), [bytes([octet]) for octet in data])
    ]
    if deflate and outcomes[0].state == FAILED:
        # Of two errors in compressed data the cut decides which is met first.
        assert all(outcome.messages == outcomes[0].messages for outcome in outcomes)
        assert all(outcome.state == FAILED for outcome in outcomes)
    else:
        assert all(outcome == outcomes[0] for outcome in outcomes)

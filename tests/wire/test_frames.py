"""Frames, read and built (RFC 6455 section 5), in both builds."""

from __future__ import annotations

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
    cuts,
    deflated,
    server_frames,
    split,
)

DATA = (CONT, TEXT, BINARY)


CONTROL = (CLOSE, PING, PONG)


LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 124, 125, 126, 127, 128, 65535, 65536, 65537)


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True
    rsv1: bool = False


class Failed(NamedTuple):
    code: int


def read(package: ModuleType, chunks: list[bytes], limit: int = 1 << 30, rsv1: bool = True) -> Any:
    """The frames in ``chunks``, put together from their pieces, and the failure at the end."""
    reader = package.wire.frames.FrameReader(limit, rsv1)
    frames: list[Frame | Failed] = []
    parts: list[bytes] = []
    fed = taken = 0
    for chunk in chunks:
        reader.feed(chunk)
        fed += len(chunk)
        try:
            while reader.next():
                assert reader.first == (not parts)
                parts.append(reader.payload)
                if reader.last:
                    frame = Frame(reader.opcode, b"".join(parts), reader.fin, reader.rsv1)
                    frames.append(frame)
                    taken += len(client_frame(0, frame.payload))
                    parts = []
                    assert reader.backlog == fed - taken
        except package.wire.errors.ProtocolError as exc:
            frames.append(Failed(exc.code))
            break
    return frames


def pieces(package: ModuleType, chunks: list[bytes]) -> list[tuple[bool, bool, bytes]]:
    reader = package.wire.frames.FrameReader(1 << 30, False)
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        while reader.next():
            found.append((reader.first, reader.last, reader.payload))
    return found


class TestVectors:
    """Section 5.7."""

    def test_a_single_frame_unmasked_text_message(self, package: ModuleType) -> None:
        expected = bytes.fromhex("81 05 48 65 6c 6c 6f")
        assert package.wire.frames.text_frame("Hello") == expected
        assert package.wire.frames.frame(0x81, b"Hello") == expected

    def test_a_single_frame_masked_text_message(self, package: ModuleType) -> None:
        data = bytes.fromhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")
        assert read(package, [data]) == [Frame(TEXT, b"Hello")]

    def test_a_fragmented_unmasked_text_message(self, package: ModuleType) -> None:
        assert package.wire.frames.frame(0x01, b"Hel") == bytes.fromhex("01 03 48 65 6c")
        assert package.wire.frames.frame(0x80, b"lo") == bytes.fromhex("80 02 6c 6f")

    def test_an_unmasked_ping_and_its_masked_answer(self, package: ModuleType) -> None:
        ping = bytes.fromhex("89 05 48 65 6c 6c 6f")
        assert package.wire.frames.frame(0x89, b"Hello") == ping
        pong = bytes.fromhex("8a 85 37 fa 21 3d 7f 9f 4d 51 58")
        assert read(package, [pong]) == [Frame(PONG, b"Hello")]

    def test_256_bytes_in_a_single_unmasked_frame(self, package: ModuleType) -> None:
        payload = bytes(range(256))
        expected = bytes.fromhex("82 7E 0100") + payload
        assert package.wire.frames.frame(0x82, payload) == expected

    def test_64_kib_in_a_single_unmasked_frame(self, package: ModuleType) -> None:
        payload = bytes(range(256)) * 256
        expected = bytes.fromhex("82 7F 0000000000010000") + payload
        assert package.wire.frames.frame(0x82, payload) == expected


class TestBuilding:
    @pytest.mark.parametrize("size", LENGTHS)
    def test_every_length_stands_in_its_shortest_form(self, package: ModuleType, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        frames = package.wire.frames
        built = frames.frame(0xC2, payload)
        assert list(server_frames(built)) == [(0xC2, 2, payload)]
        assert frames.header(0xC2, size) + payload == built
        assert len(built) - size == (2 if size < 126 else 4 if size < 65536 else 10)

    @pytest.mark.parametrize("size", LENGTHS)
    def test_text_is_framed_as_its_utf_8(self, package: ModuleType, size: int) -> None:
        for letter in "a", "é", "€", "😀":
            text = letter * size
            (frame,) = server_frames(package.wire.frames.text_frame(text))
            assert frame == (0x81, TEXT, text.encode())

    def test_a_nul_in_text_ends_nothing(self, package: ModuleType) -> None:
        assert package.wire.frames.text_frame("a\0b") == b"\x81\x03a\0b"

    def test_a_lone_surrogate_cannot_be_framed(self, package: ModuleType) -> None:
        for text in "\ud800", "a\udfff", "\ude00\ud83d":
            with pytest.raises(UnicodeEncodeError):
                package.wire.frames.text_frame(text)

    @pytest.mark.parametrize("first", [0x80 | opcode for opcode in (0, 1, 2, 8, 9, 10)] + [0, 0xFF])
    def test_the_first_byte_is_written_as_given(self, package: ModuleType, first: int) -> None:
        assert package.wire.frames.frame(first, b"x") == bytes([first, 1]) + b"x"
        assert package.wire.frames.header(first, 1) == bytes([first, 1])

    @pytest.mark.parametrize("size", [2**31, 2**32 + 1, 2**63 - 1])
    def test_a_header_can_announce_any_length(self, package: ModuleType, size: int) -> None:
        expected = b"\x82\x7f" + size.to_bytes(8, "big")
        assert package.wire.frames.header(0x82, size) == expected


class TestUnmasking:
    @pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x80\0\0\x01"])
    def test_keys_at_the_edges(self, package: ModuleType, key: bytes) -> None:
        payload = bytes(range(256))
        assert read(package, [client_frame(BINARY, payload, key=key)]) == [Frame(BINARY, payload)]

    def test_what_is_unmasked_is_a_fresh_copy(self, package: ModuleType) -> None:
        data = client_frame(BINARY, b"abc", key=b"\0\0\0\0")
        before = bytes(bytearray(data))
        assert read(package, [data]) == [Frame(BINARY, b"abc")]
        assert data == before


class TestReading:
    @pytest.mark.parametrize("size", LENGTHS)
    @pytest.mark.parametrize("opcode", DATA)
    def test_every_length(self, package: ModuleType, opcode: int, size: int) -> None:
        payload = random.Random(size).randbytes(size).translate(bytes(range(128)) * 2)  # ASCII
        data = client_frame(opcode, payload)
        assert read(package, [data]) == [Frame(opcode, payload)]
        half = len(data) // 2
        assert read(package, [data[:half], data[half:]]) == [Frame(opcode, payload)]

    @pytest.mark.parametrize("opcode", CONTROL)
    def test_control_frames_carry_up_to_125_bytes(self, package: ModuleType, opcode: int) -> None:
        for size in 0, 1, 2, 124, 125:
            payload = bytes(range(size))
            for chunks in cuts(client_frame(opcode, payload)):
                assert read(package, chunks) == [Frame(opcode, payload)]

    @pytest.mark.parametrize("size", [0, 1, 4, 9, 125, 126, 200, 300])
    def test_a_frame_may_arrive_cut_anywhere(self, package: ModuleType, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        for chunks in cuts(client_frame(BINARY, payload, fin=False)):
            assert read(package, chunks) == [Frame(BINARY, payload, fin=False)]

    def test_a_header_of_64_bits_may_be_cut_anywhere(self, package: ModuleType) -> None:
        payload = random.Random(1).randbytes(65_536)
        data = client_frame(BINARY, payload)
        for place in range(1, 20):
            chunks = [data[:place], data[place:]]
            assert read(package, chunks) == [Frame(BINARY, payload)]
        head = [bytes([octet]) for octet in data[:20]]
        assert read(package, [*head, data[20:]]) == [Frame(BINARY, payload)]

    def test_many_frames_may_come_at_once_and_cut_anywhere(self, package: ModuleType) -> None:
        expected = [
            Frame(TEXT, b"one", fin=False),
            Frame(PING, b"in between"),
            Frame(CONT, b"", fin=False),
            Frame(CONT, b"two" * 50),
            Frame(BINARY, b"", rsv1=True),
            Frame(CLOSE, b"\x03\xe8"),
        ]
        data = b"".join(
            client_frame(f.opcode, f.payload, fin=f.fin, rsv=4 * f.rsv1) for f in expected
        )
        for chunks in cuts(data):
            assert read(package, chunks) == expected

    def test_empty_chunks_change_nothing(self, package: ModuleType) -> None:
        data = client_frame(TEXT, b"hello" * 30)
        chunks = [b""]
        for octet in data:
            chunks += [bytes([octet]), b""]
        assert read(package, chunks) == [Frame(TEXT, b"hello" * 30)]

    def test_chunks_may_pile_up_before_they_are_read(self, package: ModuleType) -> None:
        payload = random.Random(2).randbytes(1000)
        data = client_frame(BINARY, payload) + client_frame(PING, b"?")
        reader = package.wire.frames.FrameReader(2000, False)
        for start in range(0, len(data), 7):
            reader.feed(data[start : start + 7])
        assert reader.backlog == len(data)
        found = b""
        while reader.next() and reader.opcode == BINARY:
            found += reader.payload
        assert found == payload
        assert (reader.opcode, reader.payload, reader.backlog) == (PING, b"?", 0)
        assert not reader.next()

    def test_the_payload_of_a_cut_frame_is_handed_on_as_it_comes(self, package: ModuleType) -> None:
        data = client_frame(TEXT, b"abcdefgh")
        assert pieces(package, [data[:6], data[6:9], data[9:]]) == [
            (True, False, b""),
            (False, False, b"abc"),
            (False, True, b"defgh"),
        ]

    def test_a_whole_frame_is_one_piece(self, package: ModuleType) -> None:
        data = client_frame(TEXT, b"abcdefgh")
        assert pieces(package, [data + data]) == [(True, True, b"abcdefgh")] * 2

    def test_a_cut_control_frame_is_one_piece(self, package: ModuleType) -> None:
        for chunks in cuts(client_frame(PING, b"abc")):
            assert pieces(package, chunks) == [(True, True, b"abc")]

    def test_nothing_is_kept_of_a_payload_that_was_handed_on(self, package: ModuleType) -> None:
        size = 8_000_000
        reader = package.wire.frames.FrameReader(size, False)
        first = client_frame(BINARY, fin=False)[:1]
        reader.feed(first + b"\xff" + size.to_bytes(8, "big") + b"\0\0\0\0")
        assert reader.next()
        chunk = bytes(100_000)
        tracemalloc.start()
        try:
            for _ in range(size // len(chunk)):
                reader.feed(bytes(chunk))
                assert reader.next()
            assert reader.last
            assert tracemalloc.get_traced_memory()[1] < 500_000
        finally:
            tracemalloc.stop()

    def test_frames_are_read_in_linear_time_from_one_large_chunk(self, package: ModuleType) -> None:
        data = client_frame(BINARY) * 20_000
        reader = package.wire.frames.FrameReader(0, False)
        reader.feed(data)
        tracemalloc.start()
        try:
            count = 0
            while reader.next():
                count += 1
            # Were the rest of the chunk copied for each frame, it would show here.
            assert tracemalloc.get_traced_memory()[1] < len(data)
        finally:
            tracemalloc.stop()
        assert count == 20_000


class TestRefusing:
    @pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
    def test_reserved_opcodes(self, package: ModuleType, opcode: int) -> None:
        for fin in True, False:
            assert read(package, [client_frame(opcode, b"x", fin=fin)]) == [Failed(1002)]

    @pytest.mark.parametrize("rsv", range(8))
    @pytest.mark.parametrize("opcode", DATA + CONTROL)
    @pytest.mark.parametrize("deflate", [False, True])
    def test_reserved_bits(self, package: ModuleType, opcode: int, rsv: int, deflate: bool) -> None:
        # RFC 7692 section 6: RSV1 stands on the first frame of a data message only.
        good = rsv == 0 or (rsv == 4 and deflate and opcode in (TEXT, BINARY))
        expected = Frame(opcode, b"x", rsv1=rsv == 4) if good else Failed(1002)
        assert read(package, [client_frame(opcode, b"x", rsv=rsv)], rsv1=deflate) == [expected]

    @pytest.mark.parametrize("opcode", DATA + CONTROL)
    def test_frames_without_a_mask(self, package: ModuleType, opcode: int) -> None:
        for payload in b"", b"Hello":
            data = package.wire.frames.frame(0x80 | opcode, payload)
            assert read(package, [data]) == [Failed(1002)]

    @pytest.mark.parametrize("opcode", CONTROL)
    def test_fragmented_control_frames(self, package: ModuleType, opcode: int) -> None:
        assert read(package, [client_frame(opcode, b"", fin=False)]) == [Failed(1002)]

    @pytest.mark.parametrize("opcode", CONTROL)
    @pytest.mark.parametrize("length", [126, 127])
    def test_control_frames_over_125_bytes(
        self, package: ModuleType, opcode: int, length: int
    ) -> None:
        # The length code alone decides: what would follow is not waited for.
        assert read(package, [bytes([0x80 | opcode, 0x80 | length])]) == [Failed(1002)]

    @pytest.mark.parametrize("size", [0, 1, 125])
    def test_a_16_bit_length_that_fits_in_7(self, package: ModuleType, size: int) -> None:
        data = b"\x82\xfe" + size.to_bytes(2, "big")
        assert read(package, [data]) == [Failed(1002)]

    @pytest.mark.parametrize("size", [0, 125, 126, 65535])
    def test_a_64_bit_length_that_fits_in_16(self, package: ModuleType, size: int) -> None:
        data = b"\x82\xff" + size.to_bytes(8, "big")
        assert read(package, [data]) == [Failed(1002)]

    @pytest.mark.parametrize("size", [2**63, 2**64 - 1])
    def test_a_length_with_the_highest_bit_set(self, package: ModuleType, size: int) -> None:
        data = b"\x82\xff" + size.to_bytes(8, "big")
        assert read(package, [data]) == [Failed(1002)]

    @pytest.mark.parametrize(
        "bad",
        [
            bytes([0x83, 0x80]),  # a reserved opcode
            bytes([0xA2, 0x80]),  # RSV2
            bytes([0x82, 0x00]),  # no mask
            bytes([0x09, 0x80]),  # a fragmented ping
            bytes([0x88, 0xFE]),  # a long close
            bytes([0x82, 0xFE, 0, 125]),
            bytes([0x82, 0xFF, 0, 0, 0, 0, 0, 0, 255, 255]),
            bytes([0x82, 0xFF, 128, 0, 0, 0, 0, 0, 0, 0]),
        ],
    )
    def test_a_bad_header_fails_however_it_is_cut(self, package: ModuleType, bad: bytes) -> None:
        for chunks in cuts(bad):
            assert read(package, chunks) == [Failed(1002)]
        before = client_frame(TEXT, b"good")
        assert read(package, [before + bad]) == [Frame(TEXT, b"good"), Failed(1002)]


class TestLimit:
    @pytest.mark.parametrize("limit", [1, 125, 126, 1000, 65535, 65536, 70000])
    def test_a_frame_of_the_limit_passes_and_one_more_byte_fails(
        self, package: ModuleType, limit: int
    ) -> None:
        good = client_frame(BINARY, bytes(limit))
        assert read(package, [good], limit=limit) == [Frame(BINARY, bytes(limit))]
        assert read(package, [client_frame(BINARY, bytes(limit + 1))], limit=limit) == [
            Failed(1009)
        ]

    @pytest.mark.parametrize("bit", range(24, 63))
    def test_every_bit_of_a_length_counts(self, package: ModuleType, bit: int) -> None:
        head = b"\x82\xff" + (2**bit + 70_000).to_bytes(8, "big") + b"\0\0\0\0"
        assert read(package, [head], limit=1 << 24) == [Failed(1009)]

    @pytest.mark.parametrize("size", [2**31, 2**32, 2**63 - 1])
    def test_a_length_over_the_limit_fails_before_a_byte_of_it_arrives(
        self, package: ModuleType, size: int
    ) -> None:
        head = b"\x82\xff" + size.to_bytes(8, "big")
        assert read(package, [head], limit=1 << 24) == [Failed(1009)]
        assert read(package, [b"\x82\xfe\x03\xe8"], limit=999) == [Failed(1009)]

    def test_a_limit_of_nothing_lets_empty_and_control_frames_pass(
        self, package: ModuleType
    ) -> None:
        data = client_frame(BINARY) + client_frame(PING, b"?" * 125) + client_frame(BINARY, b"x")
        expected = [Frame(BINARY, b""), Frame(PING, b"?" * 125), Failed(1009)]
        assert read(package, [data], limit=0) == expected


frames_strategy = st.lists(
    st.builds(
        client_frame,
        st.sampled_from(DATA + CONTROL),
        st.binary(max_size=125) | st.binary(min_size=126, max_size=300),
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 4, 2, 1]),
        key=st.binary(min_size=4, max_size=4),
    ),
    max_size=6,
).map(b"".join)


@given(st.binary(max_size=60) | frames_strategy, st.lists(st.integers(0, 2000)), st.booleans())
def test_any_split_of_any_bytes_gives_the_same_frames_in_both_builds(
    data: bytes, places: list[int], rsv1: bool
) -> None:
    whole = [read(package, [data], 200, rsv1) for package in BUILDS.values()]
    cut = [read(package, split(data, places), 200, rsv1) for package in BUILDS.values()]
    single = [read(package, [bytes([o]) for o in data], 200, rsv1) for package in BUILDS.values()]
    assert all(found == whole[0] for found in whole + cut + single)


def test_a_frame_of_deflated_bytes_is_read_like_any_other(package: ModuleType) -> None:
    payload = deflated(b"Hello")
    for chunks in cuts(client_frame(TEXT, payload, rsv=4)):
        assert read(package, chunks) == [Frame(TEXT, payload, rsv1=True)]

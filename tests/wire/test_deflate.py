"""permessage-deflate (RFC 7692): negotiation, and both directions of a connection."""

from __future__ import annotations

import contextlib
import itertools
import time
import tracemalloc
import zlib
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..toolkit.builds import builds_with_libraries
from ..toolkit.client_frames import deflated, split

LIMIT = 1 << 20


def settings(package: ModuleType, **options: Any) -> Any:
    return package.wire.deflate.Settings(**options)


def answer(package: ModuleType, *offers: bytes, **options: Any) -> bytes | None:
    """The response's Sec-WebSocket-Extensions for the offers of a request."""
    agreed = package.wire.deflate.negotiate(offers, settings(package, **options))
    return None if agreed is None else agreed[1]


def inflator(package: ModuleType, takeover: bool = True, bits: int = 15) -> Any:
    return package.wire.deflate.Inflator(package.wire.deflate.Agreed(True, takeover, 15, bits))


def deflator(package: ModuleType, takeover: bool = True, bits: int = 15, **options: Any) -> Any:
    agreed = package.wire.deflate.Agreed(takeover, True, bits, 15)
    return package.wire.deflate.Deflator(agreed, settings(package, **options))


def finished(payload: bytes, padded: bool = True) -> bytes:
    """``payload`` as blocks of which the last has BFINAL set (RFC 7692 section 7.2.3.4)."""
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_FINISH)
    return data + b"\0" if padded else data


class TestNegotiation:
    """RFC 7692 section 5 and 7.1, RFC 6455 section 9.1."""

    def test_a_plain_offer_gets_our_window(self, package: ModuleType) -> None:
        offer = b"permessage-deflate"
        assert answer(package, offer) == b"permessage-deflate; server_max_window_bits=12"
        assert answer(package, offer, window_bits=15) == b"permessage-deflate"

    def test_what_a_browser_offers(self, package: ModuleType) -> None:
        offer = b"permessage-deflate; client_max_window_bits"
        expected = b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
        assert answer(package, offer) == expected
        assert answer(package, offer, window_bits=15) == (
            b"permessage-deflate; client_max_window_bits=15"
        )

    @pytest.mark.parametrize("bits", [9, 12, 15])
    @pytest.mark.parametrize("takeover", [True, False])
    def test_the_offers_with_an_answer_of_their_own_are_answered_as_any_other(
        self, package: ModuleType, bits: int, takeover: bool
    ) -> None:
        deflate = package.wire.deflate
        settings = deflate.Settings(window_bits=bits, context_takeover=takeover)
        usual = deflate._usual(settings)
        assert len(usual) == 2
        for offer in usual:
            # A blank more is another field to the table, and the same one to the grammar.
            answer = deflate.negotiate([offer], settings)
            assert answer is not None
            assert answer == deflate.negotiate([offer + b" "], settings)
            assert deflate.negotiate([offer], None) is None

    def test_no_offer_gets_no_answer(self, package: ModuleType) -> None:
        assert answer(package) is None
        assert answer(package, b"") is None
        assert answer(package, b"x-webkit-deflate-frame") is None
        assert answer(package, b"permessage-bzip2, permessage-deflate2") is None

    def test_the_smaller_window_holds(self, package: ModuleType) -> None:
        for ours, theirs in itertools.product(range(9, 16), repeat=2):
            offer = b"permessage-deflate; server_max_window_bits=%d; client_max_window_bits=%d"
            agreed, value = package.wire.deflate.negotiate(
                [offer % (theirs, theirs)], settings(package, window_bits=ours)
            )
            bits = min(ours, theirs)
            assert agreed == (True, True, bits, bits)
            server = b"; server_max_window_bits=%d" % bits if bits < 15 else b""
            assert value == b"permessage-deflate%s; client_max_window_bits=%d" % (server, bits)

    def test_the_clients_window_is_not_ours_to_choose_unless_it_says_so(
        self, package: ModuleType
    ) -> None:
        # Section 7.1.2.2: without the parameter in the offer it must not be in the answer.
        agreed, value = package.wire.deflate.negotiate([b"permessage-deflate"], settings(package))
        assert agreed.client_bits == 15
        assert b"client_max_window_bits" not in value

    def test_zlib_has_no_window_of_8_bits_to_deflate_with(self, package: ModuleType) -> None:
        assert answer(package, b"permessage-deflate; server_max_window_bits=8") is None
        again = b"permessage-deflate; server_max_window_bits=8, permessage-deflate"
        assert answer(package, again, window_bits=15) == b"permessage-deflate"

    def test_a_client_may_deflate_with_a_window_of_8_bits(self, package: ModuleType) -> None:
        offer = b"permessage-deflate; client_max_window_bits=8"
        agreed, value = package.wire.deflate.negotiate([offer], settings(package, window_bits=15))
        assert value == b"permessage-deflate; client_max_window_bits=8"
        assert agreed.client_bits == 8
        data = zlib.compressobj(wbits=-9)
        payload = data.compress(b"Hello" * 100) + data.flush(zlib.Z_SYNC_FLUSH)
        assert package.wire.deflate.Inflator(agreed).inflate(payload[:-4], True, LIMIT) == (
            b"Hello" * 100
        )

    @pytest.mark.parametrize(
        ("offer", "server", "client"),
        [
            (b"", True, True),
            (b"; server_no_context_takeover", False, True),
            (b"; client_no_context_takeover", True, False),
            (b"; client_no_context_takeover; server_no_context_takeover", False, False),
        ],
    )
    def test_context_takeover_per_direction(
        self, package: ModuleType, offer: bytes, server: bool, client: bool
    ) -> None:
        wire = package.wire.deflate
        agreed, value = wire.negotiate(
            [b"permessage-deflate" + offer], settings(package, window_bits=15)
        )
        assert agreed == (server, client, 15, 15)
        assert (b"server_no_context_takeover" in value) is not server
        assert (b"client_no_context_takeover" in value) is not client
        agreed, value = wire.negotiate(
            [b"permessage-deflate" + offer],
            settings(package, window_bits=15, context_takeover=False),
        )
        assert agreed == (False, False, 15, 15)
        assert value == (
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        )

    @pytest.mark.parametrize(
        "bad",
        [
            b"unknown",
            b"unknown=1",
            b"server_no_context_takeover=1",
            b"server_no_context_takeover=true",
            b"client_no_context_takeover=0",
            b"server_max_window_bits",
            b"server_max_window_bits=7",
            b"server_max_window_bits=16",
            b"server_max_window_bits=010",
            b"server_max_window_bits=+9",
            b"server_max_window_bits=9.0",
            b"server_max_window_bits=x",
            b'server_max_window_bits="8"',
            b"client_max_window_bits=7",
            b"client_max_window_bits=16",
            b"client_max_window_bits=08",
            b"client_max_window_bits=-9",
            b"client_max_window_bits=" + b"9" * 5000,
            b"server_no_context_takeover; server_no_context_takeover",
            b"client_max_window_bits; client_max_window_bits=10",
            b"server_max_window_bits=10; server_max_window_bits=10",
            b"Server_No_Context_Takeover",
        ],
    )
    def test_an_offer_with_a_bad_parameter_is_declined(
        self, package: ModuleType, bad: bytes
    ) -> None:
        assert answer(package, b"permessage-deflate; " + bad) is None
        good = b"server_no_context_takeover"
        if not bad.startswith(good):
            assert answer(package, b"permessage-deflate; %s; %s" % (good, bad)) is None

    def test_the_first_acceptable_offer_is_answered(self, package: ModuleType) -> None:
        offers = (
            b"permessage-deflate; unknown, x-other, "
            b"permessage-deflate; server_max_window_bits=10, permessage-deflate"
        )
        expected = b"permessage-deflate; server_max_window_bits=10"
        assert answer(package, offers) == expected
        assert answer(package, b"x-other", *offers.split(b", ")) == expected

    @pytest.mark.parametrize(
        "offer",
        [
            b'permessage-deflate;server_max_window_bits="10"',
            b"permessage-deflate  ;\t server_max_window_bits  = 10 ",
            b", ,permessage-deflate; server_max_window_bits=10,, ",
            b'permessage-deflate; server_max_window_bits="1\\0"',
            b'other; a="b", permessage-deflate; server_max_window_bits=10',
            b'other; a=b; c; d="e"; f , permessage-deflate; server_max_window_bits=10',
        ],
    )
    def test_lists_blanks_and_quoted_strings(self, package: ModuleType, offer: bytes) -> None:
        assert answer(package, offer) == b"permessage-deflate; server_max_window_bits=10"

    @pytest.mark.parametrize(
        "field",
        [
            b"permessage-deflate; ",
            b"permessage-deflate;",
            b"permessage-deflate; ;",
            b"permessage-deflate; =1",
            b"permessage-deflate; server_max_window_bits=",
            b'permessage-deflate; client_no_context_takeover=""',
            b"permessage-deflate; server_max_window_bits==10",
            b"permessage-deflate; server_max_window_bits=10=10",
            b"permessage-deflate; server_max_window_bits=1 0",
            b"permessage-deflate client_max_window_bits",
            b"permessage-deflate=1",
            b'"permessage-deflate"',
            b'permessage-deflate; "client_max_window_bits"',
            b'permessage-deflate; client_max_window_bits="10',
            b'permessage-deflate; client_max_window_bits="1 0"',
            b'permessage-deflate; client_max_window_bits="10\\',
            b"permessage-deflate; client_max_window_bits=\xb2",
            b"permessage-deflate, \xff",
            b"permessage-deflate, a/b",
            b'permessage-deflate, other; a=""',
            b"permessage-deflate\x00",
            b"permessage-deflate, (",
            b" ",
        ],
    )
    def test_a_field_that_breaks_the_grammar_is_refused_wherever_it_stands(
        self, package: ModuleType, field: bytes
    ) -> None:
        for offers in ([field], [field, b"permessage-deflate"], [b"permessage-deflate", field]):
            with pytest.raises(package.wire.errors.HandshakeRefused) as caught:
                answer(package, *offers)
            assert caught.value.status == 400

    def test_the_grammar_counts_also_where_every_offer_is_declined(
        self, package: ModuleType
    ) -> None:
        assert package.wire.deflate.negotiate([b"permessage-deflate, x"], None) is None
        with pytest.raises(package.wire.errors.HandshakeRefused):
            package.wire.deflate.negotiate([b"permessage-deflate;"], None)

    def test_extensions_are_parsed_with_all_their_parameters(self, package: ModuleType) -> None:
        field = b'foo; bar; baz=2, , qux; quux="corge"; grault="\\a\\b"'
        assert package.wire.deflate.parse_extensions(field) == [
            ("foo", [("bar", None), ("baz", "2")]),
            ("qux", [("quux", "corge"), ("grault", "ab")]),
        ]

    @pytest.mark.parametrize(
        "field",
        [
            b"a;" * 30_000,
            b"a," * 30_000,
            b'a; b="' + b"\\x" * 30_000,
            b'a; b="' + b"x" * 60_000,
            b'"' * 60_000,
            b" " * 60_000,
            b"a; b" + b" \t" * 30_000 + b"(",
            b"permessage-deflate; client_max_window_bits=" + b"9" * 60_000,
            b"permessage-deflate; server_max_window_bits=8, " * 1300,
        ],
    )
    def test_hostile_fields_take_linear_time(self, package: ModuleType, field: bytes) -> None:
        start = time.process_time()
        with contextlib.suppress(package.wire.errors.HandshakeRefused):
            assert answer(package, field) is None
        assert time.process_time() - start < 1


@pytest.mark.usefixtures("library")
class TestInflator:
    """Section 7.2.2; the vectors are those of section 7.2.3."""

    def test_one_compressed_block(self, package: ModuleType) -> None:
        data = bytes.fromhex("f2 48 cd c9 c9 07 00")
        assert inflator(package).inflate(data, True, 5) == b"Hello"

    def test_the_window_is_taken_over(self, package: ModuleType) -> None:
        inflate = inflator(package).inflate
        assert inflate(bytes.fromhex("f2 48 cd c9 c9 07 00"), True, 5) == b"Hello"
        assert inflate(bytes.fromhex("f2 00 11 00 00"), True, 5) == b"Hello"

    def test_a_block_without_compression(self, package: ModuleType) -> None:
        data = bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00")
        assert inflator(package).inflate(data, True, 5) == b"Hello"

    @pytest.mark.parametrize("takeover", [True, False])
    def test_a_block_with_bfinal_set(self, package: ModuleType, takeover: bool) -> None:
        inflate = inflator(package, takeover).inflate
        for _ in range(3):
            assert inflate(bytes.fromhex("f3 48 cd c9 c9 07 00 00"), True, 5) == b"Hello"
        assert inflate(deflated(b"and on"), True, 6) == b"and on"

    def test_two_blocks_in_one_message(self, package: ModuleType) -> None:
        data = bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00")
        assert inflator(package).inflate(data, True, 5) == b"Hello"

    def test_an_empty_message(self, package: ModuleType) -> None:
        inflate = inflator(package).inflate
        for _ in range(3):
            assert inflate(b"\0", True, 0) == b""
        assert inflate(deflated(b"and on"), True, 6) == b"and on"

    def test_blocks_may_follow_one_with_bfinal_in_the_same_message(
        self, package: ModuleType
    ) -> None:
        # Section 7.2.1: "An endpoint MAY use both DEFLATE blocks with the BFINAL bit set
        # to 0 and DEFLATE blocks with the BFINAL bit set to 1."
        data = finished(b"one, ", padded=False) + finished(b"two, ", padded=False)
        data += deflated(b"three")
        for place in range(len(data) + 1):
            inflate = inflator(package).inflate
            message = inflate(data[:place], False, 15)
            message += inflate(data[place:], True, 15 - len(message))
            assert message == b"one, two, three"
            assert inflate(deflated(b"next"), True, 4) == b"next"

    @pytest.mark.parametrize("padded", [True, False])
    def test_a_stream_may_end_with_the_message(self, package: ModuleType, padded: bool) -> None:
        data = finished(b"Hello", padded)
        for place in range(len(data) + 1):
            inflate = inflator(package).inflate
            for _ in range(2):
                message = inflate(data[:place], False, 5)
                assert message + inflate(data[place:], True, 5 - len(message)) == b"Hello"
            assert inflate(deflated(b"next"), True, 4) == b"next"

    def test_nothing_at_all_is_an_empty_message(self, package: ModuleType) -> None:
        inflate = inflator(package).inflate
        assert inflate(b"", True, 0) == b""
        assert inflate(deflated(b"next"), True, 4) == b"next"

    def test_without_takeover_each_message_begins_with_an_empty_window(
        self, package: ModuleType
    ) -> None:
        inflate = inflator(package, takeover=False).inflate
        assert inflate(deflated(b"Hello"), True, 5) == b"Hello"
        assert inflate(deflated(b"Hello"), True, 5) == b"Hello"
        with pytest.raises(package.wire.errors.ProtocolError) as caught:
            inflate(bytes.fromhex("f2 00 11 00 00"), True, 5)
        assert caught.value.code == 1007

    def test_without_takeover_a_message_keeps_its_window_to_its_end(
        self, package: ModuleType
    ) -> None:
        inflate = inflator(package, takeover=False).inflate
        data = deflated(b"Hello Hello Hello Hello")
        message = b"".join(
            inflate(data[i : i + 1], i + 1 == len(data), 50) for i in range(len(data))
        )
        assert message == b"Hello Hello Hello Hello"

    @pytest.mark.parametrize(
        "data",
        [
            b"\xff",
            b"\x07",
            b"\x06",
            b"\x00\x01\x00\x00\x00x",
            b"\x04" + b"\xff" * 20,
            b"\x62\x02\x63",
        ],
    )
    def test_what_is_no_deflate_stream_is_invalid_data(
        self, package: ModuleType, data: bytes
    ) -> None:
        with pytest.raises(package.wire.errors.ProtocolError) as caught:
            inflator(package).inflate(data, True, LIMIT)
        assert (caught.value.code, caught.value.reason) == (1007, "invalid deflate stream")

    @pytest.mark.parametrize("size", [0, 1, 100, 4096, 65536, 100_000])
    def test_the_limit_is_exact(self, package: ModuleType, size: int) -> None:
        payload = bytes(size)
        for data in deflated(payload), finished(payload), finished(payload, padded=False):
            assert inflator(package).inflate(data, True, size) == payload
            if size:
                with pytest.raises(package.wire.errors.ProtocolError) as caught:
                    inflator(package).inflate(data, True, size - 1)
                assert caught.value.code == 1009

    def test_the_limit_holds_over_several_streams(self, package: ModuleType) -> None:
        data = finished(bytes(60), padded=False) + deflated(bytes(40))
        assert inflator(package).inflate(data, True, 100) == bytes(100)
        with pytest.raises(package.wire.errors.ProtocolError) as caught:
            inflator(package).inflate(data, True, 99)
        assert caught.value.code == 1009

    def test_what_is_over_the_limit_is_never_allocated(self, package: ModuleType) -> None:
        bomb = deflated(bytes(20_000_000))
        tracemalloc.start()
        try:
            with pytest.raises(package.wire.errors.ProtocolError):
                inflator(package).inflate(bomb, True, 1_000_000)
            assert tracemalloc.get_traced_memory()[1] < 1_800_000
        finally:
            tracemalloc.stop()

    def test_the_streams_of_one_message_are_capped(self, package: ModuleType) -> None:
        # Two bytes are a whole stream: unbounded, they would cost a recursion or a
        # copy each.
        cap = package.wire.deflate.MAX_STREAMS
        assert cap == 1024
        empty = finished(b"", padded=False)
        assert len(empty) == 2
        inflate = inflator(package).inflate
        for _ in range(2):
            assert inflate(empty * cap + deflated(b"x"), True, 1) == b"x"
        for _ in range(cap):
            assert inflate(empty, False, 0) == b""
        with pytest.raises(package.wire.errors.ProtocolError) as caught:
            inflate(empty, False, 0)
        assert caught.value.code == 1009
        start = time.process_time()
        with pytest.raises(package.wire.errors.ProtocolError) as caught:
            inflator(package).inflate(empty * 100_000, False, 1)
        assert caught.value.code == 1009
        assert time.process_time() - start < 1

    @pytest.mark.parametrize("size", [262_143, 262_144, 262_145, 524_288, 1_000_000])
    @pytest.mark.parametrize("end", [b"", b"x", b"\0\1\2\3"])
    def test_large_messages_come_out_whole(
        self, package: ModuleType, size: int, end: bytes
    ) -> None:
        payload = bytes(size) + end
        inflate = inflator(package).inflate
        for data in deflated(payload), finished(payload), finished(payload, padded=False):
            assert inflate(data, True, len(payload)) == payload
            assert (
                inflate(data[:-1], False, len(payload)) + inflate(data[-1:], True, 600) == payload
            )
        assert inflate(deflated(b"next"), True, 4) == b"next"

    @pytest.mark.parametrize("bits", range(9, 16))
    def test_every_window_of_a_client(self, package: ModuleType, bits: int) -> None:
        compressor = zlib.compressobj(wbits=-bits)
        inflate = inflator(package, bits=bits).inflate
        for number in range(20):
            payload = bytes(range(256)) * number * 10
            data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
            assert inflate(data[:-4], True, LIMIT) == payload

    def test_nothing_is_made_before_it_is_needed(self, package: ModuleType) -> None:
        tracemalloc.start()
        try:
            kept = [(inflator(package), deflator(package)) for _ in range(100)]
            assert tracemalloc.get_traced_memory()[0] < 100_000
        finally:
            tracemalloc.stop()
        assert len(kept) == 100


@pytest.mark.usefixtures("library")
class TestDeflator:
    """Section 7.2.1."""

    @pytest.mark.parametrize("bits", range(9, 16))
    @pytest.mark.parametrize("takeover", [True, False])
    @pytest.mark.parametrize(("level", "mem_level"), [(0, 1), (1, 9), (6, 5), (9, 1)])
    def test_what_is_deflated_inflates_with_the_agreed_window(
        self, package: ModuleType, bits: int, takeover: bool, level: int, mem_level: int
    ) -> None:
        deflate = deflator(package, takeover, bits, level=level, mem_level=mem_level).deflate
        reader = zlib.decompressobj(-bits)
        for payload in b"", b"", b"Hello", b"Hello", bytes(range(256)) * 200, b"":
            data = deflate(payload)
            assert data  # section 7.2.3.6: even an empty message has an octet
            assert not data.endswith(b"\0\0\xff\xff")
            if not takeover:
                reader = zlib.decompressobj(-bits)
            assert reader.decompress(data + b"\0\0\xff\xff") == payload

    @pytest.mark.parametrize("bits", range(9, 16))
    @pytest.mark.parametrize("level", [1, 6, 9])
    def test_nothing_refers_to_what_has_left_the_window(
        self, package: ModuleType, bits: int, level: int
    ) -> None:
        deflate = deflator(package, bits=bits, level=level).deflate
        reader = zlib.decompressobj(-bits)
        window, random = 1 << bits, Random(bits)
        phrase = random.randbytes(60)
        # The phrase comes again when it is just inside of the window, and just outside.
        for distance in (window - 300, window - 262, window - 1, window, window + 1, window + 258):
            payload = phrase + random.randbytes(distance - len(phrase)) + phrase
            data = deflate(payload) + b"\0\0\xff\xff"
            # Of more than one octet at a time zlib would also take what it has just written.
            inflated = bytearray()
            for start in range(0, len(data), 64):  # what is not taken yet is copied each time
                piece = data[start : start + 64]
                while octet := reader.decompress(piece, 1):
                    inflated += octet
                    piece = reader.unconsumed_tail
            assert inflated == payload

    # Each level of effort with two of memory, which are far apart.
    @pytest.mark.parametrize("level", range(10))
    @pytest.mark.parametrize("shift", [0, 4])
    def test_every_level_ends_each_message_at_a_byte(
        self, package: ModuleType, level: int, shift: int
    ) -> None:
        mem_level = (level + shift) % 9 + 1
        deflate = deflator(package, bits=9, level=level, mem_level=mem_level).deflate
        reader = zlib.decompressobj(-9)
        payload = Random(level).randbytes(33_000)
        # About the sizes of the libraries' buffers, where a flush does not fit in.
        for size in (0, 1, 500, *range(16_370, 16_390), *range(32_755, 32_775)):
            data = deflate(payload[:size])
            assert not data.endswith(b"\0\0\xff\xff")
            assert reader.decompress(data + b"\0\0\xff\xff") == payload[:size]

    def test_the_vectors(self, package: ModuleType) -> None:
        deflate = deflator(package).deflate
        assert deflate(b"Hello") == bytes.fromhex("f2 48 cd c9 c9 07 00")
        assert deflate(b"Hello") == bytes.fromhex("f2 00 11 00 00")
        assert deflate(b"") == b"\0"

    def test_without_takeover_equal_messages_are_deflated_alike(self, package: ModuleType) -> None:
        deflate = deflator(package, takeover=False).deflate
        first = deflate(b"Hello")
        assert first == deflate(b"Hello") == bytes.fromhex("f2 48 cd c9 c9 07 00")

    def test_level_and_memory_are_obeyed(self, package: ModuleType) -> None:
        payload = b"".join(b"%d " % (number * number) for number in range(3000))
        stored = deflator(package, level=0).deflate(payload)
        fast = deflator(package, level=1).deflate(payload)
        best = deflator(package, level=9).deflate(payload)
        assert len(stored) > len(payload) > len(fast) > len(best)
        small = deflator(package, mem_level=1).deflate(payload)
        assert len(small) > len(deflator(package, mem_level=9).deflate(payload))


@given(
    st.lists(
        st.tuples(st.binary(max_size=30), st.sampled_from(["flush", "finish", "bare"])),
        max_size=5,
    ),
    st.lists(st.integers(0, 500)),
    st.booleans(),
)
def test_any_split_of_any_blocks_inflates_to_the_same(
    blocks: list[tuple[bytes, str]], places: list[int], takeover: bool
) -> None:
    make = {
        "flush": lambda block: deflated(block) + b"\0\0\xff\xff",
        "finish": finished,
        "bare": lambda block: finished(block, padded=False),
    }
    # Padding is a block of no compression, of which the octets that can be left out
    # are only known at the end; inside a message it is whole.
    data = b"".join(
        make[kind](block) + (b"\0\0\xff\xff" if kind == "finish" else b"") for block, kind in blocks
    )
    data += deflated(b"end")
    expected = b"".join(block for block, _ in blocks) + b"end"
    for package in builds_with_libraries():
        inflate = inflator(package, takeover).inflate
        for _ in range(2):
            pieces = split(data, places)
            message = b""
            for number, piece in enumerate(pieces, 1):
                message += inflate(piece, number == len(pieces), LIMIT)
            assert message == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 500)))
def test_any_split_of_any_bytes_inflates_to_the_same_or_fails_alike(
    data: bytes, places: list[int]
) -> None:
    outcomes: list[bytes | None] = []
    for package in builds_with_libraries():
        for pieces in [data], split(data, places), [bytes([octet]) for octet in data] or [b""]:
            inflate = inflator(package).inflate
            message = b""
            try:
                for number, piece in enumerate(pieces, 1):
                    message += inflate(piece, number == len(pieces), 5000 - len(message))
                outcomes.append(message)
            except package.wire.errors.ProtocolError:
                outcomes.append(None)  # of two errors the cut decides which is met first
    assert all(outcome == outcomes[0] for outcome in outcomes)

"""A state machine that speaks to both builds and to the model, cut anywhere."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ..toolkit.builds import BUILDS, LIBRARIES, deflating_with
from ..toolkit.client_frames import server_frames
from .model import Frame, Message, Model, bad_frames, close_frames, good_frames, packed_frames

MAX_SIZE = 600


class Subject:
    """One build's protocol, and all that came out of it."""

    def __init__(self, package: Any, deflate: bool, max_size: int = MAX_SIZE) -> None:
        wire = package.wire
        agreed = wire.deflate.Agreed(True, True, 15, 15)
        inflator = wire.deflate.Inflator(agreed) if deflate else None
        self.protocol = wire.protocol.Protocol(max_size, inflator)
        self.closed, self.failed = wire.protocol.CLOSED, wire.protocol.FAILED
        self.messages: list[Message] = []
        self.pongs: list[bytes] = []
        self.sent_close: bytes | None = None

    def feed(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        self.collect()

    def collect(self) -> None:
        self.messages += iter(self.protocol.next_message, None)
        written, self.protocol.replies = b"".join(self.protocol.replies or ()), None
        for first, _, payload in server_frames(written):
            if first == 0x88:
                assert self.sent_close is None
                self.sent_close = payload
            else:
                assert first == 0x8A
                self.pongs.append(payload)

    def end(self) -> tuple[Any, ...] | None:
        protocol = self.protocol
        if protocol.state == self.closed:
            return ("closed", protocol.close_code, protocol.close_reason)
        return ("failed", protocol.close_code) if protocol.state == self.failed else None


class Wire(RuleBasedStateMachine):
    deflate = False

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(MAX_SIZE, self.deflate)
        self.subjects = [Subject(package, self.deflate) for package in BUILDS.values()]
        self.pending = b""

    def put(self, *frames: Frame) -> None:
        for frame in frames:
            self.model.read(frame)
            self.pending += frame.encode()

    @rule(frames=st.lists(good_frames, min_size=1, max_size=3))
    def good(self, frames: list[Frame]) -> None:
        self.put(*frames)

    @rule(frame=bad_frames)
    def bad(self, frame: Frame) -> None:
        self.put(frame)

    @rule(frame=close_frames)
    def peer_closes(self, frame: Frame) -> None:
        self.put(frame)

    @rule(size=st.integers(1, 200))
    def deliver(self, size: int) -> None:
        for subject in self.subjects:
            subject.feed(self.pending[:size])
        self.pending = self.pending[size:]

    @rule()
    def deliver_octets(self) -> None:
        for subject in self.subjects:
            for octet in self.pending:
                subject.feed(bytes([octet]))
        self.pending = b""

    @precondition(lambda self: not self.pending)
    @rule(code=st.sampled_from([1000, 1011, 4000]), reason=st.text(max_size=20))
    def we_close(self, code: int, reason: str) -> None:
        self.model.close(code, reason)
        for subject in self.subjects:
            subject.protocol.close(code, reason)
            subject.collect()

    @invariant()
    def nothing_came_that_was_not_sent(self) -> None:
        for subject in self.subjects:
            assert subject.messages == self.model.messages[: len(subject.messages)]
            assert subject.pongs == self.model.pongs[: len(subject.pongs)]

    @invariant()
    def all_that_was_delivered_is_there(self) -> None:
        if self.pending:
            return
        for subject in self.subjects:
            assert subject.messages == self.model.messages
            assert subject.pongs == self.model.pongs
            assert subject.end() == self.model.end
            expected = self.model.sent_close
            if self.model.end and self.model.end[0] == "failed" and expected is not None:
                assert subject.sent_close is not None
                assert subject.sent_close[:2] == expected[:2]
            else:
                assert subject.sent_close == expected


class WireDeflated(Wire):
    deflate = True

    def __init__(self) -> None:
        super().__init__()
        self.library = ExitStack()

    @initialize(library=st.sampled_from([*LIBRARIES]))
    def choose(self, library: str) -> None:
        self.library.enter_context(deflating_with(library))

    def teardown(self) -> None:
        self.library.close()

    @rule(frames=packed_frames)
    def packed(self, frames: Frame | list[Frame]) -> None:
        # Each message begins with a window that the one before has left; the blocks
        # drawn refer to nothing before themselves.
        self.put(*([frames] if isinstance(frames, Frame) else frames))


TestWire = Wire.TestCase
TestWire.settings = settings(max_examples=60, stateful_step_count=20, derandomize=True)
TestWireDeflated = WireDeflated.TestCase
TestWireDeflated.settings = settings(max_examples=60, stateful_step_count=20, derandomize=True)


@pytest.mark.slow
class TestLong(Wire.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(max_examples=500, stateful_step_count=50)


@pytest.mark.slow
class TestLongDeflated(WireDeflated.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(max_examples=500, stateful_step_count=50)


def test_the_model_is_no_copy_of_the_code() -> None:
    model = Model()
    model.read(Frame(8, struct.pack("!H", 1000) + b"bye"))
    assert (model.end, model.sent_close) == (("closed", 1000, "bye"), b"\x03\xe8bye")

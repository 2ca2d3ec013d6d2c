"""Close codes (RFC 6455 section 7.4), and the errors that carry their own answer."""

from __future__ import annotations

from types import ModuleType

# Section 7.4.1, and 1012 to 1014 of the IANA registry.
SENT = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


def test_what_the_registry_and_applications_define_may_be_sent(package: ModuleType) -> None:
    may_be_sent = package.wire.errors.may_be_sent
    assert {code for code in range(3000) if may_be_sent(code)} == SENT
    assert all(may_be_sent(code) for code in range(3000, 5000))
    assert not any(may_be_sent(code) for code in (-1, 5000, 65535, 65536))


def test_the_codes_we_name_may_be_sent_but_for_the_two_that_never_are(package: ModuleType) -> None:
    errors = package.wire.errors
    named = {code for name, code in vars(errors).items() if name.isupper()}
    never = {errors.NO_STATUS_RECEIVED, errors.ABNORMAL_CLOSURE}
    assert {code for code in named if not errors.may_be_sent(code)} == never


def test_an_error_carries_its_answer(package: ModuleType) -> None:
    failed = package.wire.errors.ProtocolError(1002, "reserved opcode")
    assert (failed.code, failed.reason) == (1002, "reserved opcode")
    assert str(failed) == "(1002, 'reserved opcode')"
    refused = package.wire.errors.HandshakeRefused(426, "version", ((b"a", b"b"),))
    assert (refused.status, refused.reason) == (426, "version")
    assert refused.headers == ((b"a", b"b"),)
    assert package.wire.errors.HandshakeRefused(400, "key").headers == ()

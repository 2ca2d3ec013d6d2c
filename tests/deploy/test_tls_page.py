"""docs/how-to/tls.md: certbot's files, which are copied by its hook and renewed under way."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

import pytest
import trustme
from cryptography import x509
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ..toolkit.certificates import for_two_threads
from .machine import DEADLINE, Machine
from .pages import free_port, put, steps, text, typed

pytestmark = pytest.mark.slow

PAGE = "how-to/tls"
HOST = "chat.example.com"
LIVE = f"/etc/letsencrypt/live/{HOST}"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/chat"
SOCKET = "/etc/systemd/system/chat.socket.d/tls.conf"


def renew(machine: Machine, authority: trustme.CA) -> int:
    """A certificate as certbot puts it there; its serial number."""
    leaf = authority.issue_cert(HOST)
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    machine.write(f"{LIVE}/fullchain.pem", chain.decode(), 0o600)
    machine.write(f"{LIVE}/privkey.pem", leaf.private_key_pem.bytes().decode(), 0o600)
    return x509.load_pem_x509_certificate(chain).serial_number


def run_hook(machine: Machine, lineage: str = LIVE) -> None:
    machine.run("env", f"RENEWED_LINEAGE={lineage}", HOOK)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_certificate_of_certbot_is_served_and_renewed_without_a_refused_handshake(
    machine: Machine,
) -> None:
    authority = trustme.CA()
    port = free_port()
    for path, content in steps(PAGE, "file").items():
        here = content
        if path == SOCKET:
            here = put(content, "ListenStream=0.0.0.0:443", f"ListenStream=127.0.0.1:{port}")
            here = put(here, "ListenStream=[::]:443", f"ListenStream=[::1]:{port}")
        machine.write(path, here)
    first = renew(machine, authority)
    machine.type(PAGE, "start")
    machine.wait_for_port(port)
    socket.create_connection(("::1", port), DEADLINE).close()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    look = put(typed(PAGE, "look"), f"{HOST}:443", f"127.0.0.1:{port}")

    def served() -> int:
        serial, _ = machine.run("bash", "-c", look).splitlines()
        return int(serial.removeprefix("serial="), 16)

    def websocket() -> connect:
        address = ("127.0.0.1", port)
        url = f"wss://{HOST}/"
        return connect(url, address=address, ssl=for_two_threads(context), open_timeout=DEADLINE)

    def handshakes() -> bool:
        with websocket() as one:
            one.send("hello")
            return one.recv(DEADLINE) == "hello"

    assert served() == first
    with websocket() as old:
        sts = old.response.headers["strict-transport-security"]
        assert sts == "max-age=31536000"
        run_hook(machine, "/etc/letsencrypt/live/another.example.com")
        second = renew(machine, authority)
        assert served() == first
        run_hook(machine)
        wait_until(lambda: handshakes() and "All workers are replaced" in machine.log())
        assert served() == second
        with pytest.raises(ConnectionClosed):
            old.recv(DEADLINE)
        assert old.close_code == 1012
    # A key that does not fit: it is told, and the old workers serve on.
    renew(machine, authority)
    key = trustme.CA().issue_cert(HOST).private_key_pem.bytes().decode()
    machine.write(f"{LIVE}/privkey.pem", key, 0o600)
    run_hook(machine)
    message = "the key belongs to another certificate"
    wait_until(lambda: message in machine.log())
    assert message in text(PAGE)
    assert handshakes()
    assert served() == second
    plain = machine.run(
        "curl", "--silent", "--show-error", f"http://127.0.0.1:{port}/", check=False
    )
    assert "Empty reply from server" in plain

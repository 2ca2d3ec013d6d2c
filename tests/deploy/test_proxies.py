"""nginx, Caddy and HAProxy in front, as Debian has them and docs/deploy configures them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from ..toolkit.certificates import Certificates
from .machine import APP, DEADLINE, Machine
from .pages import file, free_port, listed, put

pytestmark = pytest.mark.slow

SITE = "/etc/nginx/conf.d/chat.conf"
CADDYFILE = "/etc/caddy/Caddyfile"
HAPROXY = "/etc/haproxy/haproxy.cfg"


def nginx(machine: Machine, port: int) -> None:
    machine.path("/etc/nginx/sites-enabled/default").unlink()  # it wants port 80
    site = put(file("deploy/nginx", SITE), "listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    machine.write(SITE, site)
    machine.run("nginx")


def caddy(machine: Machine, port: int) -> None:
    # A certificate of ours in place of the one that Caddy would ask the internet for.
    tls = "bind 127.0.0.1\ntls /etc/ssl/chat.pem /etc/ssl/chat.key"
    site = put(
        file("deploy/caddy", CADDYFILE), "chat.example.com {", f"https://localhost:{port} {{\n{tls}"
    )
    alone = "{\n    admin off\n    auto_https disable_redirects\n}\n"
    machine.write(CADDYFILE, alone + site)
    machine.run("chown", "caddy", "/etc/ssl/chat.key")
    caddy = ["runuser", "-u", "caddy", "--", "caddy", "run", "--config", CADDYFILE]
    machine.start(*caddy)
    machine.wait_for_port(port)


def haproxy(machine: Machine, port: int) -> None:
    behind = f"127.0.0.1:{free_port()}"
    line = put(listed("deploy/systemd", "ListenStream="), "127.0.0.1:8000", behind)
    machine.write("/etc/systemd/system/chat.socket.d/haproxy.conf", f"[Socket]\n{line}\n")
    shipped = machine.path(HAPROXY).read_text().partition("\ndefaults\n")[0]
    assert "chroot" in shipped
    ours = put(file("deploy/haproxy", HAPROXY), "bind :443 ssl", f"bind 127.0.0.1:{port} ssl")
    ours = put(ours, "127.0.0.1:8000", behind)
    machine.write(HAPROXY, f"{shipped}\n{ours}")
    machine.run("mkdir", "-p", "/run/haproxy")
    machine.run("haproxy", "-f", HAPROXY)


@pytest.fixture
def certificates(machine: Machine, tmp_path: Path) -> Certificates:
    certificates = Certificates(tmp_path)
    chain, key = (Path(file).read_text() for file in (certificates.chain, certificates.key))
    machine.write("/etc/ssl/chat.pem", chain)
    machine.write("/etc/ssl/chat.key", key, 0o600)
    machine.write("/etc/ssl/chat.both.pem", chain + key, 0o600)
    return certificates


@pytest.mark.parametrize(("how", "workers"), [("restart", 1), ("reload", 2)])
@pytest.mark.parametrize("proxy", [nginx, caddy, haproxy])
def test_a_proxy_passes_everything_on_also_while_processes_are_replaced(
    proxy: Callable[[Machine, int], None],
    how: str,
    workers: int,
    machine: Machine,
    certificates: Certificates,
) -> None:
    machine.write("/srv/chat/pyproject.toml", f"{APP}workers = {workers}\n")
    port = free_port()
    proxy(machine, port)
    machine.systemctl("start", "chat.socket", "chat.service")
    context = certificates.client()
    url = f"localhost:{port}/"
    with httpx.Client(verify=context, timeout=DEADLINE) as client:

        def ask() -> int:
            """A request, which is answered whatever happens; by which process."""
            answer = client.get(f"https://{url}")
            assert answer.status_code == 200, answer.text
            pid, scheme, peer = answer.json()
            assert (scheme, peer) == ("https", "127.0.0.1")
            return int(pid)

        old = {int(pid) for pid in machine.path("/srv/chat/started").read_text().split()}
        assert len(old) == workers
        assert ask() in old
        with connect(f"wss://{url}", ssl=context) as websocket:
            websocket.send("hello")
            assert websocket.recv(DEADLINE) == "hello"
            replacing = threading.Thread(target=machine.systemctl, args=(how, "chat.service"))
            replacing.start()
            recent = [*old]
            while replacing.is_alive() or old.intersection(recent):
                recent = [ask() for _ in range(20)]
                if workers > 1:  # handshakes, too, are answered
                    with connect(f"wss://{url}", ssl=context, open_timeout=DEADLINE):
                        pass
            replacing.join()
            with pytest.raises(ConnectionClosedError) as closed:
                websocket.recv(DEADLINE)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        with connect(f"wss://{url}", ssl=context) as websocket:
            websocket.send("again")
            assert websocket.recv(DEADLINE) == "again"
    assert "Traceback" not in machine.log()

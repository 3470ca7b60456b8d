"""Who may read the live page: the token, host names, and headers that keep other sites out."""

from __future__ import annotations

import logging
import socket

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from mien.tests.fakes.fake_live_run import PATHS, TOKEN, served


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_but_the_health_is_told(path: str) -> None:
    with served(token=TOKEN) as run:
        run.write()
        for wrong in ("", "?token=", f"?token={TOKEN[:-1]}", f"?token={TOKEN}x", "?token=%00"):
            status, answer, body = run.ask(path + wrong)
            assert status == 401 and answer.getheader("WWW-Authenticate") == "Bearer"
            assert answer.getheader("Set-Cookie") is None and TOKEN.encode() not in body
        for header in ("", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer wrong"):
            assert run.ask(path, Authorization=header)[0] == 401
        assert run.ask(path, Cookie=f"mien-{run.port}={TOKEN}")[0] == 401
        assert run.ask("/healthz")[0] == 200 and run.ask("/nothing")[0] == 401


def test_no_log_tells_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with served(token=TOKEN) as run:
        for path in PATHS:
            run.ask(f"{path}?token={TOKEN}")
    assert "Finished server process" in caplog.text and TOKEN not in caplog.text


def test_a_token_opens_the_page_by_header_query_or_cookie() -> None:
    with served(token=TOKEN) as run:
        run.write()
        for path in PATHS:
            assert run.ask(path, Authorization=f"Bearer {TOKEN}")[0] == 200
            status, answer, _ = run.ask(f"{path}?token={TOKEN}")
            assert status == 200 and answer.getheader("Cross-Origin-Resource-Policy") == "cross-origin"
            assert (answer.getheader("Set-Cookie") is not None) == (path == "/")
        cookie = str(run.ask(f"/?token={TOKEN}")[1].getheader("Set-Cookie"))
        assert TOKEN not in cookie and {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        for path in PATHS:
            assert run.ask(path, Cookie=cookie.split(";")[0])[0] == 200


def test_a_foreign_name_is_refused_on_loopback() -> None:
    with served() as run:
        run.write()
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", ""):
            assert run.ask("/stats", Host=host)[0] == 421
        for host in ("localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8080"):
            assert run.ask("/stats", Host=host)[0] == 200
        with socket.create_connection(("127.0.0.1", run.port), timeout=10) as old:
            old.sendall(b"GET /stats HTTP/1.0\r\n\r\n")
            assert b" 421 " in old.recv(100)


def test_headers_keep_other_sites_out() -> None:
    with served() as run:
        run.write()
        for path in (*PATHS, "/healthz", "/nothing"):
            _, answer, _ = run.ask(path)
            assert answer.getheader("Cache-Control") == "no-store" and answer.getheader("Server") is None
            assert answer.getheader("X-Content-Type-Options") == "nosniff"
            assert answer.getheader("Referrer-Policy") == "no-referrer"
            assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        policy = str(run.ask("/")[1].getheader("Content-Security-Policy"))
        assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy

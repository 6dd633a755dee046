"""Clients that ask and read nothing of the answer: their connections end, over TLS too, and others get their places."""

import contextlib
import json
import shutil
import socket
import time

import httpx
import pytest
from service import FAST_TEXT
from test_tls import Authority, flags

PLACES = 4
# Connections end after 30 seconds in which nothing could be written.
LONGEST_SECONDS = 180


def unread(port, context):
    """A connection that has asked for more than the buffers on its way take."""
    body = json.dumps({"model": FAST_TEXT, "input": [f"text {number}" for number in range(2048)]}).encode()
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    # The last of them waits to be accepted.
    stream.settimeout(LONGEST_SECONDS)
    stream.connect(("127.0.0.1", port))
    if context:
        stream = context.wrap_socket(stream, server_hostname="127.0.0.1")
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    stream.sendall(head.encode() + body)
    return stream


@pytest.mark.parametrize("over_tls", [False, True])
def test_answers_that_nobody_reads_give_their_places_back(tmp_path, start, over_tls):
    if over_tls and shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    authority = Authority(tmp_path, "own") if over_tls else None
    trusted = authority.trusted() if over_tls else None
    certificate = flags(authority.issue(tmp_path / "tls")) if over_tls else ()
    service = start(*certificate, "--max-connections", PLACES, verify=trusted or True)
    service.http.close()
    with contextlib.ExitStack() as clients:
        for _ in range(PLACES):
            clients.enter_context(unread(service.port, trusted))
        begun = time.monotonic()
        with httpx.Client(base_url=service.url, timeout=LONGEST_SECONDS, verify=trusted or True, trust_env=False) as client:
            assert client.get("/livez").status_code == 200
        assert time.monotonic() - begun > 10, "every place was taken"
    service.http = httpx.Client(base_url=service.url, timeout=LONGEST_SECONDS, verify=trusted or True, trust_env=False)

"""TLS by the server itself: an authority of the test's own, certificates that change while it runs, clients that stall."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess

import httpx
import openai
import pytest
from service import FAST_TEXT, wait_until
from test_command_line import refuse

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

# The files are looked at every two seconds.
LOOKS = 30


class Authority:
    """An authority with a certificate of its own."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        run("req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate)

    def issue(self, folder):
        """A server's certificate and key as `tls.crt` and `tls.key` in a new folder."""
        folder.mkdir()
        request, names = folder / "request", folder / "names"
        names.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n")
        run("req", "-new", *KEY, "-subj", "/CN=server", "-keyout", folder / "tls.key", "-out", request)
        signed = ["-CA", self.certificate, "-CAkey", self._key, "-set_serial", "7", "-days", "2", "-extfile", names]
        run("x509", "-req", "-in", request, *signed, "-out", folder / "tls.crt")
        return folder

    def trusted(self, *others):
        """Trust in this authority, and in others beside it."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        for other in others:
            context.load_verify_locations(str(other.certificate))
        return context


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def run(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def flags(folder):
    return "--tls-certificate", folder / "tls.crt", "--tls-key", folder / "tls.key"


def answers(service, authority):
    """Whether a new connection trusts the server by this authority."""
    try:
        return httpx.get(f"{service.url}/livez", verify=authority.trusted(), trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    return [Authority(tmp_path_factory.mktemp("authority"), name) for name in ("first", "second")]


def test_the_official_client_speaks_tls_and_plain_http_is_not_answered(tmp_path, start, authorities):
    first, second = authorities
    service = start(*flags(first.issue(tmp_path / "tls")), verify=first.trusted())
    assert service.url.startswith("https://")
    http = httpx.Client(verify=first.trusted(), trust_env=False)
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", http_client=http)
    assert len(client.embeddings.create(model=FAST_TEXT, input="a").data) == 1
    assert not answers(service, second)
    with pytest.raises(httpx.HTTPError):
        httpx.get(service.url.replace("https", "http") + "/livez", trust_env=False)
    wait_until(lambda: service.metric("tls_handshakes_total", outcome="failed") >= 2, "failures are counted")
    assert service.metric("tls_handshakes_total", outcome="agreed") >= 2


def test_http_1_1_is_what_is_agreed_on(tmp_path, start, authorities):
    service = start(*flags(authorities[0].issue(tmp_path / "tls")), verify=authorities[0].trusted())
    context = authorities[0].trusted()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", service.port)) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
        assert stream.selected_alpn_protocol() == "http/1.1"


def test_a_new_certificate_is_taken_and_a_broken_one_is_not(tmp_path, start, authorities):
    """As Kubernetes does: `..data` is a link that is moved from one folder to the next, the files are links through it."""
    first, second = authorities
    secret = tmp_path / "secret"
    secret.mkdir()

    def point_at(folder):
        link = secret / "..new"
        link.symlink_to(folder)
        os.replace(link, secret / "..data")

    point_at(first.issue(tmp_path / "one"))
    for name in ("tls.crt", "tls.key"):
        (secret / name).symlink_to(f"..data/{name}")
    service = start(*flags(secret), verify=first.trusted(second))
    # An open connection goes on with what it agreed on.
    limits = httpx.Limits(max_connections=1, keepalive_expiry=600)
    kept = httpx.Client(base_url=service.url, verify=first.trusted(), trust_env=False, limits=limits)
    assert kept.get("/livez").status_code == 200

    broken = second.issue(tmp_path / "two")
    (broken / "tls.key").write_text("no key")
    point_at(broken)
    wait_until(lambda: service.metric("tls_reloads_total", outcome="refused") == 1, "the refusal", seconds=LOOKS)
    assert "the old one stays" in service.log() and answers(service, first)
    assert service.metric("tls_refused") == 1

    unlike = second.issue(tmp_path / "three")
    (unlike / "tls.key").write_bytes((tmp_path / "one" / "tls.key").read_bytes())
    point_at(unlike)
    wait_until(lambda: service.metric("tls_reloads_total", outcome="refused") == 2, "the second refusal", seconds=LOOKS)
    assert answers(service, first)

    point_at(second.issue(tmp_path / "four"))
    wait_until(lambda: answers(service, second), "the new certificate", seconds=LOOKS)
    assert not answers(service, first)
    assert kept.get("/livez").status_code == 200
    assert service.metric("tls_reloads_total", outcome="taken") == 1 and service.metric("tls_refused") == 0


def test_clients_that_stall_in_the_handshake_hold_nobody_up(tmp_path, start, authorities):
    authority = authorities[0]
    service = start(*flags(authority.issue(tmp_path / "tls")), verify=authority.trusted())
    with contextlib.ExitStack() as stalled:
        for _ in range(50):
            stalled.enter_context(socket.create_connection(("127.0.0.1", service.port)))
        assert answers(service, authority)
        wait_until(lambda: service.metric("tls_handshakes_total", outcome="too_slow") == 50, "they are cut off", seconds=LOOKS)


def test_files_that_cannot_be_used_stop_the_start(tmp_path, authorities):
    folder = authorities[0].issue(tmp_path / "tls")
    data = ("--data", tmp_path / "data", "--listen", "127.0.0.1:0")
    refuse("serve", "--tls-certificate", folder / "tls.crt", *data, names=["`tls-certificate`", "`tls-key`"])
    missing = tmp_path / "none.pem"
    refuse("serve", "--tls-certificate", missing, "--tls-key", folder / "tls.key", *data, names=["`tls-certificate`", str(missing)])
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    refuse("serve", "--tls-certificate", empty, "--tls-key", folder / "tls.key", *data, names=["holds no certificate"])

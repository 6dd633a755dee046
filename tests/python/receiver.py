"""A receiver of webhooks: an HTTP server that answers as it is told and keeps what it was sent."""

import contextlib
import http.server
import ssl
import subprocess
import threading


class Receiver:
    """Listens on the loopback. Answers `script`, of statuses or what gives them, in turn, 200 after its end; a redirect
    leads to `/elsewhere`. A port that is `held` refuses connections until `listen`."""

    def __init__(self, script=(), certificate=None, held=False):
        self.received, self._script, self._lock = [], list(script), threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(receiver.take(self.path, dict(self.headers), body))
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.server_bind()
        self._server.handle_error = lambda *_: None
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.file, certificate.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.scheme = "https"
        self.port = self._server.server_port
        self.host = f"127.0.0.1:{self.port}"
        self._listens = False
        if not held:
            self.listen()

    def listen(self):
        self._listens = True
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def take(self, path, headers, body):
        with self._lock:
            self.received.append((path, headers, body))
            answer = self._script.pop(0) if self._script else 200
        return answer() if callable(answer) else answer

    def url(self, path="/hook"):
        return f"{self.scheme}://{self.host}{path}"

    def close(self):
        if self._listens:
            self._server.shutdown()
        self._server.server_close()


class Certificate:
    """A certificate for the loopback that its own authority has signed."""

    def __init__(self, folder):
        self.file, self.key = folder / "certificate.pem", folder / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=receiver"]
        # What stands for an authority too must say that it is none, or a server may not show it.
        names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run([*made, *names, "-keyout", str(self.key), "-out", str(self.file)], check=True, capture_output=True)


@contextlib.contextmanager
def receiving(*script, **options):
    """A receiver that is closed in the end."""
    receiver = Receiver(script, **options)
    try:
        yield receiver
    finally:
        receiver.close()

"""A stand-in of the Hugging Face hub on this machine: its listing, its redirects and its headers, and the trouble a client may have.

The hub proper and the store of large files have ports of their own, as the real ones have hosts of their own.
"""

import hashlib
import http.server
import json
import threading
import time
import urllib.parse

POINTER_BYTES = 134


class Repository:
    """A model's repository. `files` are contents by path; those whose names end as in `LARGE` are kept as large files are."""

    LARGE = (".onnx", ".bin")

    def __init__(self, files, gated=False, token=None):
        self.gated, self.token, self.commits = gated, token, {}
        self.commit(files)

    def commit(self, files):
        """Another commit, which is `main` from now on; its name."""
        self.files = dict(files)
        tree = "".join(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(self.files.items()))
        self.head = hashlib.sha1(tree.encode()).hexdigest()
        self.commits[self.head] = self.files
        return self.head

    def at(self, revision):
        """The commit that a revision is, with its files; None where there is none."""
        name = self.head if revision == "main" else revision
        return (name, self.commits[name]) if name in self.commits else None

    def siblings(self, files, blobs):
        listed = []
        for name, content in files.items():
            entry = {"rfilename": name}
            if blobs:
                entry |= {"size": len(content), "blobId": git_digest(content)}
                if name.endswith(self.LARGE):
                    entry["lfs"] = {"sha256": digest(content), "size": len(content), "pointerSize": POINTER_BYTES}
            listed.append(entry)
        return listed

    def tree(self, files):
        """What the hub's own client asks for before it fetches a whole repository; folders are left out."""
        listed = []
        for name, content in files.items():
            entry = {"type": "file", "path": name, "size": len(content), "oid": git_digest(content)}
            if name.endswith(self.LARGE):
                entry["lfs"] = {"oid": digest(content), "size": len(content), "pointerSize": POINTER_BYTES}
            listed.append(entry)
        return listed


def digest(content):
    return hashlib.sha256(content).hexdigest()


def git_digest(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Trouble:
    """What happens to one request instead of what it asked for: a status, a body cut short, or one that is damaged."""

    def __init__(self, status=None, headers=None, cut=None, damaged=False, gate=None):
        self.status, self.headers, self.cut, self.damaged, self.gate = status, headers or {}, cut, damaged, gate


class Hub:
    """The stand-in. `trouble[kind]`, of `listing`, `resolve` and `store`, is taken from the front, one a request; `requests` are all
    that came, as kind, path, headers."""

    def __init__(self, repositories):
        self.repositories, self.requests, self.lock = repositories, [], threading.Lock()
        self.trouble = {"listing": [], "resolve": [], "store": []}
        # What the tests put into the mouth of a hostile hub.
        self.listing, self.location, self.of_commit = None, None, None
        self._servers = [self._serve(handler) for handler in (self._endpoint(), self._store())]
        self.url, self.store_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def of(self, kind):
        """Requests of a kind."""
        return [request for request in self.requests if request[0] == kind]

    def close(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @staticmethod
    def _serve(handler):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads, server.handle_error = True, lambda *_: None
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def _take(self, kind, request):
        with self.lock:
            self.requests.append((kind, request.path, {name.lower(): value for name, value in request.headers.items()}))
            return self.trouble[kind].pop(0) if self.trouble[kind] else Trouble()

    def _content(self, sha256):
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for content in files.values():
                    if digest(content) == sha256:
                        return content
        return None

    def _endpoint(self):
        hub = self

        class Endpoint(Handler):
            def do_GET(self):
                path, _, query = self.path.partition("?")
                parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
                if parts[:2] == ["api", "models"]:
                    if parts[4:5] == ["tree"]:
                        return self.tree("/".join(parts[2:4]), parts[5])
                    return self.listing("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main", "blobs" in query)
                if parts[:2] == ["api", "resolve-cache"]:
                    return self.small(*parts[3:5], parts[5], "/".join(parts[6:]))
                if parts[2:3] == ["resolve"]:
                    return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
                return self.say(404, {}, b"Not Found")

            do_HEAD = do_GET

            def known(self, name, revision):
                """The repository and the commit, or None after the refusal."""
                repository = hub.repositories.get(name)
                bearer = self.headers.get("authorization")
                if repository is None or (repository.token and not repository.gated and bearer != f"Bearer {repository.token}"):
                    # The hub does not tell strangers what is private and what is not there.
                    self.refuse(404 if bearer else 401, "RepoNotFound", "Repository not found")
                    return None
                found = repository.at(revision)
                if found is None:
                    self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                    return None
                return repository, *found

            def refuse(self, status, code, message, **headers):
                self.say(status, {"X-Error-Code": code, "X-Error-Message": message, **headers}, json.dumps({"error": message}).encode())

            def listing(self, name, revision, blobs):
                trouble = hub._take("listing", self)
                if trouble.status:
                    return self.say(trouble.status, trouble.headers, b"{}")
                if hub.listing is not None:
                    return self.say(200, {"Content-Type": "application/json"}, hub.listing)
                found = self.known(name, revision)
                if not found:
                    return None
                repository, commit, files = found
                body = {
                    "_id": commit[:24], "id": name, "modelId": name, "sha": commit, "private": False, "disabled": False,
                    "gated": "manual" if repository.gated else False, "downloads": 0, "likes": 0, "tags": [],
                    "siblings": repository.siblings(files, blobs),
                }
                return self.say(200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(body).encode())

            def tree(self, name, revision):
                found = self.known(name, revision)
                if found:
                    self.say(200, {"Content-Type": "application/json"}, json.dumps(found[0].tree(found[2])).encode())

            def resolve(self, name, revision, file):
                trouble = hub._take("resolve", self)
                if trouble.status:
                    return self.say(trouble.status, trouble.headers, b"")
                found = self.known(name, revision)
                if not found:
                    return None
                repository, commit, files = found
                if repository.gated and self.headers.get("authorization") != f"Bearer {repository.token}":
                    status = 403 if "authorization" in self.headers else 401
                    return self.refuse(status, "GatedRepo", f"Access to model {name} is restricted.")
                if file not in files:
                    return self.refuse(404, "EntryNotFound", "Entry not found")
                content = files[file]
                headers = {"X-Repo-Commit": hub.of_commit or commit, "Accept-Ranges": "bytes"}
                if not file.endswith(repository.LARGE):
                    path = urllib.parse.quote(f"/api/resolve-cache/models/{name}/{commit}/{file}")
                    headers |= {"Location": path, "ETag": f'"{git_digest(content)}"'}
                    return self.say(307, headers, b"Temporary Redirect")
                headers |= {
                    "Location": f"{hub.store_url}/{digest(content)}?signature=a%2Fb" if hub.location is None else hub.location,
                    "X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest(content)}"', "ETag": f'"{digest(content)}"',
                }
                return self.say(302, headers, b"Found. Redirecting")

            def small(self, owner, name, commit, file):
                content = hub.repositories[f"{owner}/{name}"].commits[commit][file]
                return self.content(content, {"X-Repo-Commit": commit, "ETag": f'"{git_digest(content)}"'}, Trouble())

        return Endpoint

    def _store(self):
        hub = self

        class Store(Handler):
            def do_GET(self):
                trouble = hub._take("store", self)
                if trouble.status:
                    return self.say(trouble.status, trouble.headers, b"")
                content = hub._content(self.path.strip("/").partition("?")[0])
                return self.say(404, {}, b"") if content is None else self.content(content, {"ETag": f'"{digest(content)[:32]}"'}, trouble)

            do_HEAD = do_GET

        return Store


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def content(self, content, headers, trouble):
        """A file or the part of it that is asked for, with what is to befall it."""
        status, start = 200, 0
        asked = self.headers.get("range")
        if asked:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                return self.say(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            status, headers = 206, headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        body = memoryview(content)[start:]
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body)), "Accept-Ranges": "bytes"}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if trouble.damaged:
            body = memoryview(bytes([body[0] ^ 1]) + bytes(body[1:]))
        if trouble.cut is not None:
            self.wfile.write(body[: trouble.cut])
            self.wfile.flush()
            if trouble.gate:
                trouble.gate.wait(60)
            self.close_connection = True
            return None
        self.wfile.write(body)
        return None


def wait_for_bytes(folder, least, seconds=60):
    """Waits until files under `folder` have so many bytes together."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) >= least:
            return
        time.sleep(0.005)
    raise AssertionError(f"{folder} did not get {least} bytes")

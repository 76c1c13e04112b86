"""A hub on loopback: the four endpoints that a download uses, with faults to order."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server serves; a test changes it between pulls.

    Attributes:
        files: Content by name, all in the repository ``org/model``.
        announced: Digests to lie about, by name.
        fetched: Names of the files that were downloaded, in order.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    announced: dict[str, str] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)
    url: str = ""

    def digest(self, name: str) -> str:
        return self.announced.get(name, hashlib.sha256(self.files[name]).hexdigest())

    def info(self) -> object:
        siblings = [
            {
                "rfilename": name,
                "size": len(data),
                "blobId": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                **({"lfs": self._lfs(name)} if name.endswith(".safetensors") else {}),
            }
            for name, data in self.files.items()
        ]
        return {"id": "org/model", "sha": self.commit, "siblings": siblings}

    def tree(self) -> object:
        return [
            {
                "type": "file",
                "path": name,
                "size": len(data),
                "oid": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                **({"lfs": self._lfs(name)} if name.endswith(".safetensors") else {}),
            }
            for name, data in self.files.items()
        ]

    def _lfs(self, name: str) -> dict[str, object]:
        digest = self.digest(name)
        return {"sha256": digest, "oid": digest, "size": len(self.files[name]), "pointerSize": 100}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        if path.startswith("/api/models/org/model/revision/"):
            self.hub.revisions.append(path.rpartition("/")[2])
            self._send(json.dumps(self.hub.info()).encode(), {})
        elif path.startswith("/api/models/org/model/tree/"):
            self._send(json.dumps(self.hub.tree()).encode(), {})
        elif path.startswith("/org/model/resolve/"):
            self._send_file(path.rpartition("/")[2])
        else:
            headers = {"X-Error-Code": "RepoNotFound"}
            self._send(b"{}", headers, status=404)

    def _send_file(self, name: str) -> None:
        if self.command == "GET":
            self.hub.fetched.append(name)
        headers = {"ETag": f'"{self.hub.digest(name)}"', "X-Repo-Commit": self.hub.commit}
        self._send(self.hub.files[name], headers)

    def _send(self, body: bytes, headers: dict[str, str], *, status: int = 200) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub until the block ends; its ``url`` is set."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

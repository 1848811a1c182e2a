"""A model hub on loopback: as much of the Hugging Face Hub's interface as pushing and pulling a bundle needs."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """Repositories in memory: name -> commits, each the bytes by path."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                hub._get(self)

            def do_HEAD(self) -> None:
                hub._get(self)

            def do_POST(self) -> None:
                hub._post(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def newest(self, name: str) -> dict[str, bytes]:
        """The files of the last commit."""
        return list(self.repositories[name].values())[-1]

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        parts = handler.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            commit, files = self._at(name, revision)
            if files is None:
                return _send(handler, 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            if "tree" in parts:
                return _send(
                    handler, 200, [{"type": "file", "path": p, "size": len(b), "oid": "0"} for p, b in files.items()]
                )
            return _send(handler, 200, {"id": name, "sha": commit, "siblings": [{"rfilename": p} for p in files]})
        name, revision, path = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        commit, files = self._at(name, revision)
        if files is None or path not in files:
            return _send(handler, 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        etag = f'"{hashlib.sha256(files[path]).hexdigest()}"'
        return _send(handler, 200, files[path], {"ETag": etag, "X-Repo-Commit": commit})

    def _post(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        parts = handler.path.partition("?")[0].strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}" if values.get("organization") else values["name"]
            self.repositories.setdefault(name, {})
            return _send(handler, 200, {"url": f"{self.endpoint}/{name}", "id": name})
        if parts[-1] == "validate-yaml":
            return _send(handler, 200, {"errors": [], "warnings": []})
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = json.loads(body)["files"]
            return _send(
                handler,
                200,
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]},
            )
        files = dict(self.newest(name)) if self.repositories[name] else {}
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        commit = hashlib.sha1(body).hexdigest()
        self.repositories[name][commit] = files
        return _send(handler, 200, {"commitUrl": f"{self.endpoint}/{name}/commit/{commit}", "commitOid": commit})

    def _at(self, name: str, revision: str) -> tuple[str, dict[str, bytes] | None]:
        commits = self.repositories.get(name) or {}
        commit = list(commits)[-1] if revision == "main" and commits else revision
        return commit, commits.get(commit)


def _send(handler: BaseHTTPRequestHandler, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)

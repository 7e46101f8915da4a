"""A hub on this machine: as much of its protocol as its own client speaks to make, fill and read a repository."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml


class _Hub(ThreadingHTTPServer):
    def __init__(self, token):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token, self.repositories, self.commits = token, {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _say(self, status, value, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, content)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._say(401, {"error": "Invalid username or password."})
        elif self.path == "/api/validate-yaml":
            # The hub's card has to begin with YAML that names what its pages show.
            facts = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            self._say(200, {"errors": [] if facts.get("library_name") else [{"message": "no library"}], "warnings": []})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            private = asked.get("visibility") == "private" or asked.get("private", False)
            self.server.repositories.setdefault(name, {"private": private, "files": {}})
            self._say(200, {"url": f"{self.server.url}/{name}", "name": name})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            names = [one["path"] for one in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self._say(200, {"files": modes})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._say(404, {"error": f"nothing at {self.path}"})

    def _commit(self, name, lines):
        files = self.server.repositories[name]["files"]
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.server.commits.append((name, [line["value"]["path"] for line in lines if line["key"] == "file"]))
        address = f"{self.server.url}/{name}/commit/{_sha(files)}"
        self._say(200, {"success": True, "commitOid": _sha(files), "commitUrl": address})

    def do_GET(self):
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/[^?]+)?(?:\?.*)?", self.path):
            self._info(found[1])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^?]+(?:\?.*)?", self.path):
            files = self.server.repositories[found[1]]["files"]
            entries = [(path, len(content), hashlib.sha1(content).hexdigest()) for path, content in files.items()]
            self._say(200, [{"type": "file", "path": path, "size": size, "oid": oid} for path, size, oid in entries])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path):
            repository = self.server.repositories.get(found[1], {"files": {}})
            content = repository["files"].get(found[2])
            if content is None:
                self._say(404, {"error": "Entry not found"}, **{"X-Error-Code": "EntryNotFound"})
            else:
                etag = f'"{hashlib.sha1(content).hexdigest()}"'
                self._say(200, content, ETag=etag, **{"X-Repo-Commit": _sha(repository["files"])})
        else:
            self._say(404, {"error": f"nothing at {self.path}"})

    do_HEAD = do_GET

    def _info(self, name):
        if name not in self.server.repositories:
            self._say(404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})
            return
        files = self.server.repositories[name]["files"]
        self._say(200, {"id": name, "sha": _sha(files), "siblings": [{"rfilename": path} for path in files]})


def _sha(files):
    """The name of a commit: of what its files hold."""
    return hashlib.sha1(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()


@contextmanager
def loopback_hub(token="hf_a-token"):
    """The running hub; `repositories` has what was put there, `commits` what each commit held."""
    hub = _Hub(token)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()

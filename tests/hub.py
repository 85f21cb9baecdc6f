"""A stand-in for the Hugging Face Hub: what uploads and downloads of a dataset ask of it."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_of_the_stand_in"


class Hub(ThreadingHTTPServer):
    """Repositories by name; each branch is a list of commits, and each commit a dict of files."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos, self.private, self.asked = {}, {}, []

    def files(self, name, revision="main"):
        """Return the id of a revision's last commit and its files."""
        branches = self.repos[name]
        commits = [commit for branch in branches.values() for commit in branch]
        found = branches.get(revision, commits)
        return next(c for c in reversed(found) if revision in branches or c[0] == revision)


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        """Print nothing."""

    def give(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code):
        self.give(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server, unquote(self.path.split("?")[0])
        hub.asked.append((self.command, path))
        found = re.match(r"(?:/api)?/datasets/([^/]+/[^/]+)", path)
        name = found and found[1]
        if name not in hub.repos:
            return self.refuse(404, "RepoNotFound")
        rest = path.split(name, 1)[1].split("/")[1:]
        try:
            commit, files = hub.files(name, rest[1] if len(rest) > 1 else "main")
        except StopIteration:
            return self.refuse(404, "RevisionNotFound")
        ids = {file: hashlib.sha1(content).hexdigest() for file, content in files.items()}
        if rest and rest[0] == "resolve":
            file = "/".join(rest[2:])
            if file not in files:
                return self.refuse(404, "EntryNotFound")
            return self.give(200, files[file], ETag=f'"{ids[file]}"', X_Repo_Commit=commit)
        if rest and rest[0] == "tree":
            return self.give(
                200,
                [
                    {"type": "file", "path": file, "size": len(content), "oid": ids[file]}
                    for file, content in files.items()
                ],
            )
        siblings = [{"rfilename": file} for file in files]
        return self.give(200, {"id": name, "sha": commit, "siblings": siblings})

    def do_POST(self):
        hub, path = self.server, unquote(self.path.split("?")[0])
        hub.asked.append((self.command, path))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "/api/validate-yaml":
            return self.give(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, "Unauthorized")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            url = {"url": f"{hub.url}/datasets/{name}"}
            if name in hub.repos:
                return self.give(409, url)
            assert asked["type"] == "dataset"
            hub.repos[name] = {"main": [("0" * 40, {".gitattributes": b"*.png binary\n"})]}
            hub.private[name] = asked.get("private") or asked.get("visibility") == "private"
            return self.give(200, url)
        name, what, revision = re.fullmatch(
            r"/api/datasets/([^/]+/[^/]+)/(preupload|commit|branch)/(.+)", path
        ).groups()
        branches = hub.repos[name]
        if what == "branch":
            if revision in branches:
                return self.refuse(409, "Conflict")
            branches[revision] = branches["main"][-1:]
            return self.give(200, {})
        if revision not in branches:
            return self.refuse(404, "RevisionNotFound")
        if what == "preupload":
            files = json.loads(body)["files"]
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in files
            ]
            return self.give(200, {"files": modes})
        return self.commit(name, branches[revision], body)

    def commit(self, name, branch, body):
        files = dict(branch[-1][1])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = hashlib.sha1(body).hexdigest()
        branch.append((commit, files))
        url = f"{self.server.url}/datasets/{name}/commit/{commit}"
        return self.give(200, {"commitOid": commit, "commitUrl": url})


@contextmanager
def stand_in(monkeypatch, folder):
    """Run a hub that huggingface_hub talks to, with its cache in a folder and a token."""
    from huggingface_hub import constants, file_download

    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    for module in (constants, file_download):  # the latter in versions before 1.0
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()

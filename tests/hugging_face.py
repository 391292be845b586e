"""A stand-in for Hugging Face: it serves files at /ORG/NAME/resolve/REVISION/FILE, large ones by way of another host, as that does."""

import http.server
from types import SimpleNamespace

from serving import Served


class HuggingFace(Served):
    """Serves until the context ends.

    Attributes:
        files: path below the host to its content; an int is the size of a large file.
        token: what gated models want; "" for none.
        seen: method, path and Authorization of each request.
    """

    def __init__(self, files: dict, token: str = ""):
        super().__init__(Answer)
        self.files, self.token, self.seen = files, token, []
        # Another origin of the same server.
        self.storage = f"http://localhost:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    """One request."""

    def answer(self):
        known = self.server
        # A proxy is asked for the whole URL.
        path = "/" + self.path.split("/", 3)[3] if self.path.startswith("http://") else self.path
        known.seen.append(SimpleNamespace(method=self.command, path=self.path, token=self.headers.get("Authorization")))
        if known.token and "/stored/" not in path and self.headers.get("Authorization") != f"Bearer {known.token}":
            return self.say(401, {"X-Error-Code": "GatedRepo"})
        if path not in known.files:
            there = any(name.rpartition("/")[0] == path.rpartition("/")[0] for name in known.files)
            return self.say(404, {"X-Error-Code": "EntryNotFound" if there else "RepoNotFound"})
        content = known.files[path]
        if isinstance(content, int):
            return self.say(302, {"X-Linked-Size": str(content), "Location": f"{known.storage}/stored{path}"})
        if content.startswith("-> "):
            return self.say(307, {"Location": content.removeprefix("-> ")})
        return self.say(200, {}, content.encode())

    def say(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_GET = do_HEAD = answer  # noqa: N815 (the names are http.server's)

    def log_message(self, *_):
        pass

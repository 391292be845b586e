"""Lets programs of this machine reach a model server through the API server's proxy; never looks at what passes.

They are given a URL of this machine, and no credential: the API server's is added here. It has a secret in its path, since
other users of the machine reach the port, too.
"""

from __future__ import annotations

import contextlib
import http.server
import secrets
import threading
from collections.abc import Iterator

import urllib3
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster, Unreachable

# Of one connection alone (RFC 9110, 7.6.1), or of the credential that the API server is to see.
OWN = frozenset(
    (
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "authorization",
        "date",
        "server",
    )
)
CHUNK = 65536


@contextlib.contextmanager
def forwarded(cluster: Cluster, path: str, seconds: float) -> Iterator[str]:
    """Forward a port of this machine meanwhile.

    Args:
        cluster: where the server is.
        path: that leads to it at the API server, as ``delivery.proxied`` gives it.
        seconds: how long an answer may take.

    Yields:
        the URL, without a slash at its end.
    """
    secret = f"/{secrets.token_urlsafe(16)}"

    class Handler(http.server.BaseHTTPRequestHandler):
        """One request."""

        def relay(self) -> None:
            """Pass a request on, and its answer back as it comes."""
            if not self.path.startswith(f"{secret}/"):
                self.send_error(404)
                return
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
            body = self.rfile.read(length)
            try:
                answer = cluster.stream(self.command, path + self.path.removeprefix(secret), headers, body, seconds)
            except Unreachable as error:
                self.send_error(502, explain=str(error))
                return
            # The caller may leave in the midst of an answer, and the server end it.
            with contextlib.suppress(OSError, urllib3.exceptions.HTTPError):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in OWN:
                        self.send_header(name, value)
                self.end_headers()
                for part in answer.stream(CHUNK, decode_content=False):
                    self.wfile.write(part)
                    self.wfile.flush()
            answer.release_conn()

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = relay  # noqa: N815 (the names are http.server's)

        def log_message(self, *_args: object) -> None:
            """Say nothing: what a request is about is nobody's business."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{secret}"
        finally:
            server.shutdown()

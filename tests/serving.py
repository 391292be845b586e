"""An HTTP server of the tests' own, in a thread of theirs."""

import http.server
import threading


class Served(http.server.ThreadingHTTPServer):
    """Serves on a free port of this machine until the context ends.

    Attributes:
        url: of the server.
    """

    daemon_threads = True

    def __init__(self, answer: type[http.server.BaseHTTPRequestHandler]):
        super().__init__(("127.0.0.1", 0), answer)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

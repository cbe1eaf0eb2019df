"""A loopback server of files that keeps account of what it sends, and breaks off at will."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, path = self.server, self.server.root / self.path.lstrip("/")
        server.asked.append(self.path)
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = self.begin(content)
        if start is not None:
            self.send(content[start:])

    def begin(self, content):
        """Send the header; return the first byte to be sent."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return None
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        return start

    def send(self, content):
        """Send so many bytes as the server lets through, and keep account of them."""
        self.server.sent.append(len(content[: self.server.limit]))
        self.wfile.write(content[: self.server.limit])
        self.wfile.flush()
        self.server.halted.set()
        if self.server.limit is not None:
            self.server.go_on.wait(30)


@contextmanager
def serving(root):
    """Serve a folder.

    ``asked`` are the paths, ``sent`` the bytes of each answer; after ``limit`` bytes an answer is
    broken off, at once or, where ``go_on`` is cleared, when it is set; ``halted`` tells that it is
    waiting.
    """
    root.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.root, made.asked, made.sent, made.ranges, made.limit = root, [], [], True, None
        made.halted, made.go_on = threading.Event(), threading.Event()
        made.go_on.set()
        made.url = f"http://127.0.0.1:{made.server_port}"
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            made.go_on.set()
            made.shutdown()
            thread.join()

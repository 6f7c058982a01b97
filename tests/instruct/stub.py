"""An OpenAI-compatible endpoint on 127.0.0.1 whose replies a test chooses; it records the requests."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, *, model="m", usage=(100, 10), **fields):
    """The body of an answer."""
    body = {"model": model, "choices": [{"message": {"role": "assistant", "content": text}}], **fields}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return json.dumps(body).encode()


class Stub(ThreadingHTTPServer):
    """Answers by ``reply(prompt, times)``: bytes, (status, bytes, headers), or a callable that takes the handler.

    Attributes:
        asked: prompts in the order they came.
        headers: of each, by name in any case.
        at: when each came, by the monotonic clock.
    """

    daemon_threads = True

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.prompts, self.headers, self.at = reply, [], [], []
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        with self.server.lock:
            self.server.prompts.append(prompt)
            self.server.headers.append(self.headers)
            self.server.at.append(time.monotonic())
            times = self.server.prompts.count(prompt)
        reply = self.server.reply(prompt, times)
        if callable(reply):
            reply(self)
            return
        status, raw, headers = reply if isinstance(reply, tuple) else (200, reply, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args):
        """Nothing is printed."""


@contextmanager
def serving(reply):
    """A stub that runs while the block does."""
    server = Stub(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()

"""HTTP that follows no redirect and ends when its time is over, however slowly the other side writes."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: urllib then reports the status as an error."""
        return


class Refused(urllib.error.HTTPError):
    """A status that is no success, with what was said beside it."""

    said = b""


class _Told(urllib.request.HTTPDefaultErrorHandler):
    """Reads what stands beside a status while the clock still runs."""

    def http_error_default(self, req: Any, fp: Any, code: int, msg: str, hdrs: Any) -> Any:
        """Raise it."""
        error = Refused(req.full_url, code, msg, hdrs, fp)
        with suppress(OSError, http.client.HTTPException, ValueError):
            error.said = fp.read(2000)
        raise error


_HERE = threading.local()
"""``sockets``: those that this thread's question has opened."""


class _Http(http.client.HTTPConnection):
    """A connection that can be hung up on from another thread."""

    def connect(self) -> None:
        """Connect, and say by which socket."""
        super().connect()
        _HERE.sockets.append(self.sock)


class _Https(http.client.HTTPSConnection):
    """Likewise, encrypted."""

    def connect(self) -> None:
        """Connect, and say by which socket."""
        super().connect()
        _HERE.sockets.append(self.sock)


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(_Http, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: Any) -> Any:
        return self.do_open(_Https, req)


OPENER = urllib.request.build_opener(_NoRedirect, _Told, _HttpHandler, _HttpsHandler)


@contextmanager
def hung_up_on(seconds: float) -> Iterator[None]:
    """End what this thread's question still reads after so long: a socket's own timeout starts anew with every byte."""
    sockets: list[socket.socket] = []
    _HERE.sockets = sockets

    def hang_up() -> None:
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    clock = threading.Timer(seconds, hang_up)
    clock.daemon = True
    clock.start()
    try:
        yield
    finally:
        clock.cancel()

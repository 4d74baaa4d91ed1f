"""A pipelining client for large trees: one session on one connection, many requests in flight."""

import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "differential"))
import codec  # noqa: E402

WINDOW = 500
REPLY_SECONDS_MAX = 30
SESSION_MS = 600_000  # lives without pings, however slow the machine is


class Refused(Exception):
    """The server did not accept a session."""


class Connection:
    """A session; `requests` are codec.Request values. Watches are not set, so every frame is a reply."""

    def __init__(self, port, timeout_ms=SESSION_MS, session=0, password=bytes(16), host="127.0.0.1", last_zxid=0,
                 reply_seconds_max=REPLY_SECONDS_MAX):
        self.socket = socket.create_connection((host, port), reply_seconds_max)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received, self.at, self.xid, self.last_zxid = b"", 0, 0, last_zxid
        request = codec.connect_request(session=session, password=password, timeout=timeout_ms, last_zxid=last_zxid)
        self.socket.sendall(codec.frame(request))
        reader = codec.Reader(self._frame())
        reader.int()
        self.timeout_ms, self.session, self.password = reader.int(), reader.long(), reader.data()
        if self.timeout_ms == 0:
            self.socket.close()
            raise Refused(f"session 0x{session:x}")

    def _frame(self):
        """The next frame's body."""
        while True:
            have = len(self.received) - self.at
            if have >= 4:
                length = struct.unpack_from(">i", self.received, self.at)[0]
                if have >= 4 + length:
                    body = self.received[self.at + 4 : self.at + 4 + length]
                    self.at += 4 + length
                    return body
            part = self.socket.recv(1 << 20)
            if not part:
                raise ConnectionError("the server closed the connection")
            self.received, self.at = self.received[self.at :] + part, 0

    def _send(self, requests):
        """Sends requests in one go; the xids in the order of their replies."""
        xids, raw = [], []
        for request in requests:
            self.xid += 1
            xid = self.xid if request.xid is None else request.xid
            xids.append(xid)
            raw.append(codec.frame(codec.i32(xid) + codec.i32(request.op) + request.body))
        self.socket.sendall(b"".join(raw))
        return xids

    def pipeline(self, requests, window=WINDOW):
        """Sends requests, at most two windows of them unanswered; yields (request, err, reply body) in order."""
        requests, sent = iter(requests), []
        while True:
            batch = [request for _, request in zip(range(window), requests)]
            if batch:
                sent.append((batch, self._send(batch)))
            if not sent:
                return
            if len(sent) == 2 or not batch:
                for request, xid in zip(*sent.pop(0)):
                    body = self._frame()
                    got, zxid, err = codec.REPLY_HEADER.unpack_from(body)
                    if got != xid:
                        raise codec.Malformed(f"reply {got} where {xid} was due")
                    self.last_zxid = max(self.last_zxid, zxid)
                    yield request, err, body[codec.REPLY_HEADER.size :]

    def call(self, request, err=0):
        """One request whose reply must carry `err`; the fields of the reply, or the only one."""
        for _, got, body in self.pipeline([request]):
            if got != err:
                raise AssertionError(f"{request.text}: error {got} instead of {err}")
            fields = codec.Reader(body).fields(request.kinds) if got == 0 else ()
            return fields[0] if len(fields) == 1 else fields

    def run(self, requests):
        """Many requests that must all succeed; the number of them."""
        number = 0
        for request, err, _ in self.pipeline(requests):
            if err:
                raise AssertionError(f"{request.text}: error {err}")
            number += 1
        return number

    def close(self):
        """Closes the session."""
        self.call(codec.close_session())
        self.socket.close()

    def drop(self):
        """Closes the connection only."""
        self.socket.close()


def word(port, name):
    """The answer of a four-letter word."""
    with socket.create_connection(("127.0.0.1", port), REPLY_SECONDS_MAX) as connection:
        connection.sendall(name.encode())
        answer = b""
        while part := connection.recv(1 << 20):
            answer += part
    return answer.decode()

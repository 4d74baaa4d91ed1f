"""A raw client of the protocol, and the transcript of one case that it writes to."""
import contextlib
import select
import socket
import time
from collections import namedtuple

import codec
from mapping import EVENT_NAMES, Mapper, finished

Reply = namedtuple("Reply", "xid zxid err values")
REPLY_SECONDS_MAX = 30


class Stuck(Exception):
    """The server sent nothing though something was due."""


class Failed(Exception):
    """A case's own expectation did not hold."""


class Play:
    """One case or sequence played to one server: its connections and the transcript."""

    def __init__(self, port, root="", base_zxid=0, settings=None, server=None, mutate=None, sorted_acls=False, settling=True):
        self.port, self.root, self.server = port, root, server
        self.settings = settings or {}
        self.mapper = Mapper(base_zxid, sorted_acls)
        self.steps = [("begin", [])]
        self.clients, self.passwords, self.ended = [], {}, set()
        self.write_zxids = set()
        self.mutate, self.settling = mutate, settling

    # -- transcript

    def step(self, title):
        self.steps.append((title, []))

    def note(self, line, event_zxid=None):
        self.steps[-1][1].append(line if event_zxid is None else (line, event_zxid))

    def transcript(self):
        return finished(self.steps, self.write_zxids)

    def expect(self, holds, message):
        """For what one server alone must satisfy; a case that compares needs it only to stay meaningful."""
        if not holds:
            raise Failed(message)

    # -- connections

    def socket(self, name):
        """A connection without a session."""
        client = Client(self, name)
        self.clients.append(client)
        return client

    def connect(self, name, of=None, behind=(), **fields):
        """A connection with a session: a new one, or the session of the client `of`. `behind` is pipelined."""
        client = self.socket(name)
        if of is not None:
            fields.setdefault("session", of.session)
            fields.setdefault("password", of.password)
        client.connect(behind, **fields)
        return client

    def settle(self, but=None):
        """Collects what came to the other connections: their events precede the answer to a ping."""
        asked = [c for c in self.clients if c is not but and c.established and not c.closed and not c.quiet]
        for client in asked:
            client.send(codec.frame(codec.i32(-2) + codec.i32(codec.PING)))
        for client in asked:
            client.pending.append(codec.ping())
            client.await_replies(silently=True)

    def until(self, holds, what):
        """Waits for a condition that nobody announces."""
        deadline = time.monotonic() + REPLY_SECONDS_MAX
        while not holds():
            if time.monotonic() > deadline:
                raise Stuck(f"never: {what}")
            time.sleep(0.02)

    def restart(self, how="KILL"):
        """Ends the server and starts it again; every connection is gone."""
        self.step(f"the server is restarted after {how}")
        for client in self.clients:
            client.disconnect()
        self.server.restart(how)

    def word(self, word, trailing=b""):
        """The whole answer of a four-letter word."""
        with socket.create_connection(("127.0.0.1", self.port), REPLY_SECONDS_MAX) as connection:
            connection.sendall(word + trailing)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    answer += part
        return answer.decode()

    def finish(self):
        """Ends every session of the case, so that none expires into the next one."""
        self.step("end")
        self.settle()
        for client in self.clients:
            if client.established and not client.closed and client.session not in self.ended and not client.quiet:
                client.send(codec.frame(codec.i32(1) + codec.i32(codec.CLOSE_SESSION)))
                client.drain()
            client.disconnect()
        for session, password in self.passwords.items():
            if session not in self.ended:
                end_session(self.port, session, password, self.settings.get("super"))


class Client:
    """One TCP connection. Calling it sends requests in one segment and waits for their replies."""

    def __init__(self, play, name):
        self.play, self.name = play, name
        self.closed = False
        self.connection = socket.socket()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.settimeout(REPLY_SECONDS_MAX)
        try:
            self.connection.connect(("127.0.0.1", play.port))
        except (BrokenPipeError, ConnectionResetError):  # closed as soon as it was accepted
            self.closed = True
        self.received = bytearray()
        self.pending, self.ready = [], []
        self.xid = 0
        self.session, self.password, self.timeout = 0, bytes(16), 0
        self.established = self.quiet = False
        self.last_zxid = 0

    # -- bytes

    def send(self, raw):
        with contextlib.suppress(ConnectionError):
            self.connection.sendall(raw)

    def _receive(self, seconds):
        """Reads once. False when nothing came in time."""
        if not select.select([self.connection], [], [], max(seconds, 0))[0]:
            return False
        try:
            part = self.connection.recv(262144)
        except ConnectionError:
            part = b""
        if part:
            self.received += part
        else:
            self.closed = True
        return True

    def next_frame(self, seconds=REPLY_SECONDS_MAX):
        """The next frame's body; None when the server closed; raises Stuck when nothing came in time."""
        deadline = time.monotonic() + seconds
        received, mutate = self.received, self.play.mutate
        while True:
            if self.ready:
                return self.ready.pop(0)
            if len(received) >= 4:
                length = int.from_bytes(received[:4], "big", signed=True)
                if length < 0:
                    raise codec.Malformed(f"a frame of length {length}")
                if len(received) >= 4 + length:
                    body = bytes(received[4:4 + length])
                    del received[:4 + length]
                    if mutate is None or not self.established:
                        return body
                    self.ready += mutate(body)
                    continue
            if self.closed:
                return None
            if not self._receive(deadline - time.monotonic()):
                raise Stuck(f"{self.name}: nothing came within {seconds} s")

    # -- handshake

    def connect(self, behind=(), **fields):
        play, mapper = self.play, self.play.mapper
        shown = {key: value for key, value in fields.items() if key not in ("session", "password", "last_zxid")}
        if "session" in fields:
            shown["session"] = mapper.owner(fields["session"])
        if "password" in fields:
            right = codec.session_password(fields.get("session", 0)) == fields["password"]
            shown["password"] = "right" if right else "null" if fields["password"] is None else f"{len(fields['password'])} other bytes"
        if "last_zxid" in fields:
            shown["lastZxidSeen"] = mapper.zxid(fields["last_zxid"])
        text = " ".join(f"{key}={value}" for key, value in shown.items())
        play.step(f"{self.name}> connect {text}" + "".join(f"; {request.text}" for request in behind))
        raw = codec.frame(codec.connect_request(**fields))
        self.send(raw + b"".join(self._encode(request) for request in behind))
        self.read_connect_response()
        if self.established:
            self.await_replies()
        if play.settling:
            play.settle(but=self)

    def read_connect_response(self):
        body = self.next_frame()
        if body is None:
            return self.play.note(f"{self.name}< closed")
        mapper, reader = self.play.mapper, codec.Reader(body)
        protocol, timeout, session, password = reader.int(), reader.int(), reader.long(), reader.data()
        rest = reader.rest().hex()
        self.play.note(f"{self.name}< connected protocol={protocol} timeout={timeout} session={mapper.session(session)} "
                       f"password={mapper.password(session, password)} rest={rest}")
        if session == 0:
            return self.drain()
        self.session, self.password, self.timeout, self.established = session, password, timeout, True
        self.play.passwords[session] = password

    # -- requests

    def _encode(self, request):
        xid = request.xid
        if xid is None:
            self.xid += 1
            xid = self.xid
        if request.answered:
            request.xid = -2 if request.op == codec.PING else xid
            self.pending.append(request)
        return codec.frame(codec.i32(xid) + codec.i32(request.op) + request.body)

    def __call__(self, *requests):
        """Sends the requests and waits for their replies (or the close): one reply, or a list of them."""
        self.play.step(f"{self.name}> " + "; ".join(request.text for request in requests))
        self.send(b"".join([self._encode(request) for request in requests]))
        replies = self.await_replies()
        if self.play.settling:
            self.play.settle(but=self)
        return replies[0] if len(requests) == 1 else replies

    def send_bytes(self, raw, title):
        """Sends any bytes, and waits for nothing."""
        self.play.step(f"{self.name}> {title}")
        self.send(raw)

    def await_replies(self, silently=False):
        replies = {}
        waiting = list(self.pending)
        while self.pending:
            try:
                body = self.next_frame()
            except Stuck as stuck:
                raise Stuck(f"{stuck}; unanswered: {'; '.join(r.text for r in self.pending)}") from None
            if body is None:
                self.play.note(f"{self.name}< closed")
                self.pending.clear()
                break
            request, reply = self.take(body, silently)
            if request is not None:
                replies[id(request)] = reply
        return [replies.get(id(request)) for request in waiting] or [None]

    def take(self, body, silently=False):
        """Notes one frame; the request it answers and the reply, or (None, None) for an event."""
        play, mapper = self.play, self.play.mapper
        if len(body) < 16:
            play.note(f"{self.name}< a frame of {len(body)} bytes: {body.hex()}")
            return None, None
        xid, zxid, err = codec.REPLY_HEADER.unpack_from(body)
        reader = codec.Reader(body, 16)
        if xid == -1 and not any(request.xid == -1 for request in self.pending):
            kind, state, path = reader.int(), reader.int(), reader.string()
            rest = reader.rest()
            line = (f"{self.name}< event {EVENT_NAMES.get(kind, kind)} {path!r} {mapper.zxid(zxid)}"
                    + (f" state={state} err={err} rest={rest.hex()}" if state != 3 or err or rest else ""))
            play.note(line, zxid)
            return None, None
        request = next((request for request in self.pending if request.xid == xid), None)
        if request is None:
            play.note(f"{self.name}< unexpected reply xid={xid} {mapper.zxid(zxid)} err={err} {reader.rest().hex()}")
            return None, None
        self.pending.remove(request)
        values = ()
        if err == 0 or (request.op in (codec.MULTI_READ, codec.SASL) and len(body) > 16):
            values = reader.fields(request.kinds)
        rest = reader.rest()
        if not (silently and err == 0 and not rest):
            shown = f" {mapper.fields(request.kinds, values)}" if values else ""
            behind = f" rest={rest.hex()}" if rest else ""
            play.note(f"{self.name}< xid={xid} {mapper.zxid(zxid)} err={err}{shown}{behind}")
        if request.op in codec.WRITES:
            play.write_zxids.add(zxid)
        elif request.op == codec.CLOSE_SESSION and err == 0:
            play.ended.add(self.session)
        if zxid > 0 and xid >= 0:
            self.last_zxid = zxid
        return request, Reply(xid, zxid, err, values)

    # -- what comes by itself

    def expect_close(self, seconds=REPLY_SECONDS_MAX):
        """Notes all that comes until the server closes the connection."""
        while (body := self.next_frame(seconds)) is not None:
            self.take(body)
        self.play.note(f"{self.name}< closed")
        self.pending.clear()

    def await_events(self, count, seconds=REPLY_SECONDS_MAX):
        """Notes that many frames that nobody asked for."""
        for _ in range(count):
            body = self.next_frame(seconds)
            if body is None:
                return self.play.note(f"{self.name}< closed")
            self.take(body)

    def silence(self, seconds=0.3):
        """Notes what comes within a time in which nothing should."""
        try:
            body = self.next_frame(seconds)
        except Stuck:
            self.play.note(f"{self.name}< nothing")
        else:
            self.play.note(f"{self.name}< closed" if body is None else f"{self.name}< {body.hex()}")

    def drain(self):
        """Notes what comes until the server closes, as after the last word of a session."""
        self.pending.append(codec.close_session().with_xid(1))
        self.expect_close()

    def disconnect(self):
        """Closes the connection; the session lives on."""
        self.closed = True
        self.connection.close()


def end_session(port, session, password, super_auth=None):
    """Closes a session over a connection of its own; a session that is gone already is fine."""
    deadline = time.monotonic() + REPLY_SECONDS_MAX
    while time.monotonic() < deadline:
        play = Play(port, settling=False)
        client = play.connect("end", session=session, password=password)
        if not client.established:
            if client.received or any("connected" in line for line in play.steps[-1][1]):
                return  # the server answered that there is no such session
            time.sleep(0.05)  # refused before an answer, as when too many connections are open
            continue
        if super_auth:
            client(codec.auth("digest", super_auth))
        client(codec.close_session())
        client.disconnect()
        return
    raise Stuck("a session could not be closed")

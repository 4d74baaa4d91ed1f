"""The life of sessions: heartbeats, expiry, closing, restarts of the server."""
import time

import codec as k
from cases import case
from client import Client
from quota_words import HARD, limits, nodes, stats


def stay_alive(client, seconds):
    """Uses a connection for a while without leaving a trace in the transcript."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        client.send(k.frame(k.i32(-2) + k.i32(k.PING)))
        client.pending.append(k.ping())
        client.await_replies(silently=True)
        time.sleep(0.1)


@case("fast")
def timeouts_of_a_fast_server(t):
    for timeout in (0, 399, 400, 401, 3000, 600000, 600001):
        a = t.connect(f"A{timeout}", timeout=timeout)
        a(k.close_session())
        a.expect_close()


def expire(t, a, watcher, events):
    """Lets the session of `a` expire while `watcher` lives; checks that it took the timeout and at most a bit more."""
    a.quiet = True
    silent_since = time.monotonic()
    t.step("a session is left silent")
    while not watcher.ready:
        watcher.send(k.frame(k.i32(-2) + k.i32(k.PING)))
        watcher.pending.append(k.ping())
        body = watcher.next_frame()
        if int.from_bytes(body[:4], "big", signed=True) == -1:
            watcher.ready.append(body)
        else:
            watcher.take(body, silently=True)
            time.sleep(0.02)
        t.expect(time.monotonic() - silent_since < 15, "the session never expired")
    took = time.monotonic() - silent_since
    t.expect(took >= a.timeout / 1000 - 0.1, f"a session of {a.timeout} ms expired after {took:.3f} s")
    watcher.await_events(events)
    watcher.pending.clear()


@case("fast")
def expiry_ends_ephemerals_and_closes(t):
    b = t.connect("B", timeout=30000)
    a = t.connect("A", timeout=1000)
    a(k.create(t.root + "/e", flags=1), k.create(t.root + "/p"), k.exists(t.root + "/x", True))
    b(k.exists(t.root + "/e", True))
    expire(t, a, b, 1)
    a.expect_close()
    t.connect("C", of=a)
    b(k.get_children2(t.root))


@case("fast")
def expiry_without_a_connection(t):
    b = t.connect("B", timeout=30000)
    a = t.connect("A", timeout=600)
    a(k.create(t.root + "/e", flags=1), k.create(t.root + "/s-", flags=3))
    a.disconnect()
    b(k.exists(t.root + "/e", True), k.get_children(t.root, True))
    expire(t, a, b, 2)
    t.connect("C", of=a)
    b(k.get_children2(t.root))


@case("fast")
def expiry_takes_one_zxid(t):
    b = t.connect("B", timeout=30000)
    a = t.connect("A", timeout=500)
    b(k.add_watch(t.root, 1))
    a(*[k.create(f"{t.root}/e{number}", flags=1) for number in range(5)])
    expire(t, a, b, 5)
    b(k.create(t.root + "/n"))


@case("fast")
def expiry_without_ephemerals_takes_a_zxid(t):
    b = t.connect("B", timeout=30000)
    a = t.connect("A", timeout=1600)
    a(k.create(t.root + "/e", flags=1))
    a.disconnect()
    c = t.connect("C", timeout=400)
    c.disconnect()
    b(k.exists(t.root + "/e", True))
    expire(t, a, b, 1)
    stay_alive(b, 1)
    b(k.create(t.root + "/n"))
    t.connect("D", of=c)


for name, request in (("ping", k.ping), ("failing_read", lambda: k.get_data("/none")), ("failing_write", lambda: k.delete("/none")),
                      ("set_watches", lambda: k.set_watches(0))):
    @case("fast", name=f"kept_alive_by_{name}")
    def kept_alive(t, request=request):
        a = t.connect("A", timeout=1600)
        a(k.create(t.root + "/e", flags=1))
        for _ in range(12):
            time.sleep(0.2)
            a(request())
        a(k.exists(t.root + "/e"))


@case("fast")
def auth_is_no_heartbeat(t):
    a = t.connect("A", timeout=600)
    a(k.create(t.root + "/e", flags=1))
    t.step("A sends nothing but auth")
    auth = k.frame(k.i32(-4) + k.i32(k.AUTH) + k.auth("digest", b"u:p").body)
    began = time.monotonic()
    while time.monotonic() - began < 10:
        a.send(auth)
        body = a.next_frame()
        if body is None:
            break
        t.expect(k.REPLY_HEADER.unpack_from(body)[2] == 0, "auth failed")
        time.sleep(0.05)
    t.note(f"closed: {a.closed}")
    t.expect(not a.closed or time.monotonic() - began >= 0.5, "closed too early")
    t.connect("B", of=a)


@case("fast")
def renewal_counts_as_a_heartbeat(t):
    a = t.connect("A", timeout=2000)
    a(k.create(t.root + "/e", flags=1))
    for number in range(5):
        a.disconnect()
        time.sleep(0.6)
        a = t.connect(f"A{number}", of=a, timeout=2000)
    a(k.exists(t.root + "/e"))


@case("fast")
def expired_renewal_is_refused_again(t):
    b = t.connect("B", timeout=30000)
    a = t.connect("A", timeout=400)
    a(k.create(t.root + "/e", flags=1))
    a.disconnect()
    b(k.exists(t.root + "/e", True))
    expire(t, a, b, 1)
    for read_only in (False, None, True):
        t.connect(f"C{read_only}", of=a, read_only=read_only)


@case()
def close_session(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.create(t.root + "/e", flags=1), k.create(t.root + "/p"), k.get_data(t.root, True))
    b(k.get_children(t.root, True))
    a(k.close_session())
    a.expect_close()
    b(k.get_children2(t.root))
    t.connect("C", of=a)


@case()
def close_session_without_ephemerals(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.close_session())
    a.expect_close()
    b(k.create(t.root + "/n"))


@case()
def close_session_behind_other_requests(t):
    a, b = t.connect("A"), t.connect("B")
    b(k.add_watch(t.root, 0))
    a(k.create(t.root + "/e", flags=1), k.create(t.root + "/s-", flags=3), k.multi(k.create(t.root + "/m", flags=1)), k.delete(t.root + "/e"),
      k.create(t.root + "/none/x"), k.get_ephemerals("/"), k.close_session())
    a.expect_close()
    b(k.get_children2(t.root))


@case()
def close_session_and_drop_at_once(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.create(t.root + "/e", flags=1))
    b(k.exists(t.root + "/e", True))
    a.send_bytes(k.frame(k.i32(9) + k.i32(k.CLOSE_SESSION)), "closeSession, and the socket is closed")
    a.disconnect()
    b.await_events(1)
    b(k.exists(t.root + "/e"))
    t.connect("C", of=a)


@case()
def create_and_close_and_drop_in_one_segment(t):
    b = t.connect("B")
    b(k.get_children(t.root, True))
    a = t.socket("A")
    a.send_bytes(k.frame(k.connect_request()) + k.frame(k.i32(1) + k.i32(k.CREATE) + k.create(t.root + "/e", flags=1).body)
                 + k.frame(k.i32(2) + k.i32(k.CLOSE_SESSION)), "a whole life in one segment")
    a.read_connect_response()
    a.pending += [k.create(t.root + "/e").with_xid(1), k.close_session().with_xid(2)]
    a.await_replies()
    a.expect_close()
    b(k.get_children2(t.root))


@case()
def closing_with_the_parent_just_deleted(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.create(t.root + "/p"), k.create(t.root + "/p/e", flags=1))
    b(k.delete(t.root + "/p"))
    b(k.delete(t.root + "/p/e"), k.delete(t.root + "/p"))
    a(k.close_session())
    a.expect_close()
    b(k.get_children2(t.root))


@case()
def ephemerals_under_several_parents(t):
    a, b = t.connect("A"), t.connect("B")
    a(*[k.create(f"{t.root}/{name}") for name in "xyz"])
    a(*[k.create(f"{t.root}/{name}/e{number}", b"d", flags=1) for name in "xyz" for number in range(3)])
    b(*[k.get_children(f"{t.root}/{name}", True) for name in "xyz"], k.add_watch(t.root, 1))
    a(k.close_session())
    a.expect_close()
    b(*[k.exists(f"{t.root}/{name}") for name in "xyz"])


@case()
def many_sessions(t):
    clients = [t.connect(f"A{number}") for number in range(40)]
    for number, client in enumerate(clients):
        client(k.create(f"{t.root}/e{number}", flags=1))
    clients[0](k.get_children2(t.root))
    for client in clients[1:]:
        client(k.close_session())
        client.expect_close()
    clients[0](k.get_children2(t.root))


@case()
def sessions_opened_and_closed_in_a_row(t):
    for number in range(60):
        a = t.connect(f"A{number}", behind=[k.auth("digest", b"u:p"), k.create(t.root + "/e", flags=1), k.close_session()])
        a.expect_close()
    t.connect("B")(k.exists(t.root))


@case()
def old_connection_after_a_takeover(t):
    a = t.connect("A")
    b = t.connect("B", of=a)
    a.send_bytes(k.frame(k.i32(5) + k.i32(k.CREATE) + k.create(t.root + "/n").body), "a write on the old connection")
    a.expect_close()
    b(k.exists(t.root + "/n"))


for how in ("KILL", "TERM"):
    @case("restart", name=f"sessions_survive_{how}")
    def sessions_survive(t, how=how):
        a = t.connect("A", timeout=20000)
        b = t.connect("B", timeout=40000, behind=[k.auth("digest", b"u:p")])
        c = t.connect("C")
        a(k.create(t.root + "/a", b"1", flags=1), k.create(t.root + "/s-", flags=3))
        b(k.create(t.root + "/b", b"2", k.CREATOR, flags=1), k.create(t.root + "/null", None))
        c(k.create(t.root + "/c", flags=1), k.close_session())
        c.expect_close()
        seen = a(k.ping()).zxid
        t.restart(how)
        t.connect("C2", of=c)
        t.connect("ahead", of=a, last_zxid=seen + 1)
        a = t.connect("A2", of=a, last_zxid=seen)
        a(k.get_ephemerals("/"), k.get_children2(t.root), k.exists(t.root + "/a"), k.exists(t.root + "/b"), k.get_data(t.root + "/null"))
        b = t.connect("B2", of=b, timeout=40000)
        b(k.get_data(t.root + "/b"), k.get_acl(t.root + "/b"), k.create(t.root + "/s-", flags=3))
        a(k.close_session())
        a.expect_close()
        b(k.get_children2(t.root))

    @case("restart", name=f"tree_survives_{how}")
    def tree_survives(t, how=how):
        a, r = t.connect("A"), t.root
        a(k.create(r + "/n", b"1"), k.create(r + "/n/c"), k.set_data(r + "/n", b"22"), k.delete(r + "/n/c"), k.create(r + "/n/s-", flags=2))
        a(k.set_acl(r + "/n", [(31, "ip", "127.0.0.1"), (1, "digest", "u:x")]))
        a(k.create_container(r + "/k"), k.create_ttl(r + "/t", 10**7, b"t"), k.create_container(r + "/k/c"))
        a(k.multi(k.create(r + "/m", b"m"), k.set_data(r + "/m", b"mm"), k.create(r + "/m/s-", flags=2)), k.multi(k.create(r + "/x"), k.check(r, 9)))
        a(k.set_data(r, None), k.delete(r + "/none"), k.create(r + "/x", acl=[]))
        paths = [r, r + "/n", r + "/n/s-0000000001", r + "/k", r + "/t", r + "/m", r + "/x"]
        a(*[request for path in paths for request in (k.get_data(path), k.get_acl(path), k.get_children2(path))])
        t.restart(how)
        a = t.connect("A2", of=a)
        a(*[request for path in paths for request in (k.get_data(path), k.get_acl(path), k.get_children2(path))])
        a(k.create2(r + "/n/s-", flags=2), k.create2(r + "/m/s-", flags=2), k.set_data(r + "/n", b"3", 1), k.delete(r + "/k/c"), k.get_all_children_number(r))

    @case("restart", name=f"quota_survives_{how}")
    def quota_survives(t, how=how):
        a, r = t.connect("A"), t.root
        a(*nodes(r), k.create(limits(r), HARD % (50, 5)), k.create(stats(r), b""), k.create(r + "/c", b"123"), k.get_data(stats(r)))
        t.restart(how)
        a = t.connect("A2", of=a)
        a(k.get_data(stats(r)), k.create(r + "/d", b"45"), k.get_data(stats(r)), k.delete(r + "/c"), k.get_data(stats(r)))

    @case("restart", name=f"watches_catch_up_after_{how}")
    def watches_catch_up(t, how=how):
        a, b, r = t.connect("A"), t.connect("B"), t.root
        a(k.create(r + "/n"), k.create(r + "/d"), k.create(r + "/same"))
        seen = a(k.ping()).zxid
        b(k.set_data(r + "/n"), k.delete(r + "/d"), k.create(r + "/new"))
        t.restart(how)
        a = t.connect("A2", of=a, last_zxid=seen, behind=[
            k.set_watches2(seen, [r + "/n", r + "/d", r + "/same"], [r + "/new", r + "/none"], [r, r + "/same"], [r], [r], label="seen")])
        b = t.connect("B2", of=b)
        b(k.set_data(r + "/same"), k.create(r + "/none"))


@case("restart")
def twice_killed(t):
    a = t.connect("A")
    for number in range(2):
        a(k.create(f"{t.root}/e{number}", flags=1), k.create(f"{t.root}/s-", flags=2), k.set_data(t.root, b"x"))
        t.restart()
        a = t.connect(f"A{number}", of=a)
    a(k.get_children2(t.root), k.get_data(t.root), k.get_ephemerals("/"), k.create(t.root + "/s-", flags=2))


@case("restart")
def session_ids_after_a_restart(t):
    a = t.connect("A")
    t.restart()
    b = t.connect("B")
    t.expect(b.session > a.session, "a later session has a smaller id")
    t.note(f"server byte {b.session >> 56}")
    t.connect("A2", of=a)(k.ping())


@case("restart")
def connections_are_closed_by_the_end_of_the_server(t):
    a, b = t.connect("A"), t.connect("B")
    a(k.create(t.root + "/e", flags=1))
    t.step("the server ends by TERM")
    t.server.stop("TERM")
    a.expect_close()
    b.expect_close()
    t.server.start()
    t.connect("A2", of=a)(k.exists(t.root + "/e"))


def connect_patiently(t, name):
    """A session on a server that may still count connections that were closed just now."""
    refused = []
    while True:
        client = Client(t, name)
        client.send(k.frame(k.connect_request()))
        body = client.next_frame()
        if body is not None:
            client.ready.append(body)
            t.clients.append(client)
            t.step(f"{name}> connect")
            client.read_connect_response()
            return client
        client.disconnect()
        refused.append(client)
        t.expect(len(refused) < 500, "always refused")
        time.sleep(0.02)


@case("narrow")
def connections_per_address(t):
    # One of the six connections is the suite's own.
    clients = [connect_patiently(t, f"A{number}") for number in range(5)]
    for attempt in range(2):
        refused = t.socket(f"R{attempt}")
        refused.send_bytes(k.frame(k.connect_request()), "a ConnectRequest on the seventh connection")
        refused.expect_close()
    for client in clients:
        client(k.ping())
    clients[0](k.close_session())
    clients[0].expect_close()
    connect_patiently(t, "B")(k.create(t.root + "/n"))


@case("fast")
def connection_without_a_session_is_closed(t):
    a = t.socket("A")
    began = time.monotonic()
    a.send_bytes(b"\0\0", "half a length")
    a.expect_close(10)
    took = time.monotonic() - began
    t.expect(took >= 0.45, f"closed after {took:.3f} s of at least 0.5")

"""Create modes: containers, TTL nodes, modes that do not fit their op, and the reaper."""
import time

import codec as k
from cases import case

OPS = {"create": k.create, "create2": k.create2, "container": k.create_container}
for op, request in OPS.items():
    for flags in range(-1, 8):
        @case(name=f"flags_{flags}_in_{op}")
        def flags_in_op(t, request=request, flags=flags):
            a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
            a(request(n, b"data", flags=flags))
            names = a(k.get_children2(t.root)).values[0]
            for name in names:
                a(k.get_data(f"{t.root}/{name}"), k.get_ephemerals("/"))
                a(k.create(f"{t.root}/{name}/c"))
            a(k.close_session())
            a.expect_close()
            b(k.get_children2(t.root))

# A mode without TTL and with a negative ttl kills a Java server: `ours_only` has those.
for flags in range(-1, 8):
    for ttl in (0, 1, 10**7, 0xFFFFFFFFFF, 0x10000000000, 2**63 - 1) + ((-1, -2, -2**63) if flags in (-1, 5, 6, 7) else ()):
        if flags in (5, 6) or ttl in (0, 10**7, -1):
            @case(name=f"flags_{flags}_ttl_{ttl}")
            def flags_and_ttl(t, flags=flags, ttl=ttl):
                a = t.connect("A")
                a(k.create_ttl(t.root + "/n", ttl, b"d", flags=flags))
                for name in a(k.get_children2(t.root)).values[0]:
                    a(k.exists(f"{t.root}/{name}"), k.create(f"{t.root}/{name}/c"))


@case()
def containers_and_ttl_nodes_show_no_owner(t):
    a, r = t.connect("A"), t.root
    a(k.create_container(r + "/k"), k.create_ttl(r + "/t", 10**7), k.create_ttl(r + "/ts-", 10**7, flags=6), k.create_container(r + "/ks-", flags=2))
    a(k.exists(r + "/k"), k.exists(r + "/t"), k.get_ephemerals("/"), k.get_children2(r))
    a(k.create(r + "/k/e", flags=1), k.create(r + "/t/e", flags=1), k.create(r + "/t/s-", flags=2))
    a(k.set_data(r + "/k", b"1"), k.set_data(r + "/t", b"2"), k.delete(r + "/k"), k.delete(r + "/t/e"), k.delete(r + "/t/s-0000000001"), k.delete(r + "/t"))


@case("old")
def modes_without_extended_types(t):
    a, r = t.connect("A"), t.root
    for flags in range(-1, 8):
        for request in (k.create(f"{r}/c{flags}", flags=flags), k.create2(f"{r}/d{flags}", flags=flags), k.create_container(f"{r}/k{flags}", flags=flags)):
            a(request)
        a(k.create_ttl(f"{r}/t{flags}", 10**7, flags=flags))
    a(k.get_children2(r), k.create(r + "/k4/c"), k.exists(r + "/k4"))


@case("old")
def ttl_without_extended_types_before_other_checks(t):
    a = t.connect("A")
    a(k.create_ttl("nopath", 0, acl=[]), k.create_ttl(t.root + "/n", -1), k.create_ttl(t.root + "/none/n", 5, flags=6), k.ping())
    a(k.create_ttl(t.root + "/n", 5, flags=0), k.create_ttl(t.root + "/n", 5, flags=9))


def await_reaping(client, events):
    client.play.step(f"{client.name} waits for the reaper")
    client.await_events(events)


@case("fast")
def emptied_container_is_reaped(t):
    a, k_ = t.connect("A", timeout=30000), t.root + "/k"
    a(k.create_container(k_), k.create(k_ + "/c"), k.exists(k_, True), k.get_children(t.root, True))
    a(k.delete(k_ + "/c"))
    await_reaping(a, 2)
    a(k.exists(k_), k.exists(t.root))


def linger(client, seconds):
    """Keeps a session alive while something must not happen."""
    client.play.step(f"{client.name} lingers")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        client.send(k.frame(k.i32(-2) + k.i32(k.PING)))
        client.pending.append(k.ping())
        client.await_replies(silently=True)
        time.sleep(0.05)


@case("fast")
def unused_container_and_full_ones_stay(t):
    a, r = t.connect("A", timeout=30000), t.root
    a(k.create_container(r + "/unused"), k.create_container(r + "/full"), k.create(r + "/full/c"), k.create(r + "/plain", flags=4),
      k.create(r + "/plain/c"), k.delete(r + "/plain/c"), k.create_ttl(r + "/long", 10**7))
    linger(a, 1.2)
    a(k.get_children2(r))


@case("fast")
def nested_containers_go_one_after_another(t):
    a, r = t.connect("A", timeout=30000), t.root
    a(k.create_container(r + "/k"), k.create_container(r + "/k/l"), k.create(r + "/k/l/c"), k.add_watch(r, 1))
    a(k.delete(r + "/k/l/c"))
    await_reaping(a, 2)
    a(k.get_children2(r))


@case("fast")
def container_from_a_multi_is_reaped(t):
    a, r = t.connect("A", timeout=30000), t.root
    a(k.multi(k.create(r + "/k", flags=4), k.create(r + "/k/c"), k.delete(r + "/k/c")), k.exists(r + "/k", True))
    await_reaping(a, 1)
    a(k.get_children2(r))


@case("fast")
def ttl_node_is_reaped(t):
    a, n = t.connect("A", timeout=30000), t.root + "/n"
    began = time.monotonic()
    a(k.create_ttl(n, 700), k.exists(n, True))
    a.play.step("the TTL runs out")
    while not a.ready:
        a.send(k.frame(k.i32(-2) + k.i32(k.PING)))
        a.pending.append(k.ping())
        body = a.next_frame()
        if int.from_bytes(body[:4], "big", signed=True) == -1:
            a.ready.append(body)
        else:
            a.take(body, silently=True)
            time.sleep(0.02)
        t.expect(time.monotonic() - began < 15, "never reaped")
    t.expect(time.monotonic() - began >= 0.69, "reaped before its ttl")
    a.await_events(1)
    a.pending.clear()
    a(k.exists(t.root))


@case("fast")
def ttl_node_with_children_stays_until_they_are_gone(t):
    a, n = t.connect("A", timeout=30000), t.root + "/n"
    a(k.create_ttl(n, 100), k.create(n + "/c"))
    linger(a, 1.2)
    a(k.exists(n, True), k.delete(n + "/c"))
    await_reaping(a, 1)
    a(k.get_children2(t.root))


@case("fast")
def set_data_restarts_a_ttl(t):
    a, n = t.connect("A", timeout=30000), t.root + "/n"
    a(k.create_ttl(n, 2500))
    for _ in range(3):
        linger(a, 1.2)
        a(k.set_data(n))
    a(k.exists(n, True))
    linger(a, 0.4)
    a(k.exists(n))
    await_reaping(a, 1)


@case("fast")
def reaping_takes_one_zxid(t):
    a, r = t.connect("A", timeout=30000), t.root
    a(k.create_ttl(r + "/n", 50), k.exists(r + "/n", True))
    await_reaping(a, 1)
    a(k.create2(r + "/after"))

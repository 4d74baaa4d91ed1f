"""What kills or confuses a Java server, with the answer that is right: played to ours alone.

Each case ends by reading and writing over a new connection, because an answer is worth nothing if the server is gone.
"""
import codec as k
from cases import case
from quota_words import limits, nodes, stats


def still_serves(t):
    c = t.connect("check")
    reply = c(k.create2(t.root + "/still-serves", b"yes"))
    t.expect(reply is not None and reply.err == 0, "the server does not serve any more")
    read = c(k.get_data(t.root + "/still-serves"))
    t.expect(read.err == 0 and read.values[0] == b"yes", "the server does not read any more")


def answers(t, client, request, err):
    reply = client(request)
    t.expect(reply is not None, f"{request.text} was not answered")
    t.expect(reply.err == err, f"{request.text} was answered {reply.err}, not {err}")
    return reply


for flags in range(5):
    for ttl in (-1, -2**63):
        @case("ours_only", name=f"ttl_{ttl}_with_flags_{flags}", ours_only=True)
        def ttl_of_another_mode(t, flags=flags, ttl=ttl):
            a = t.connect("A")
            answers(t, a, k.create_ttl(t.root + "/n", ttl, flags=flags), k.BAD_ARGUMENTS)
            answers(t, a, k.exists(t.root + "/n"), k.NO_NODE)
            answers(t, a, k.exists(t.root + "/n0000000000"), k.NO_NODE)
            still_serves(t)


for name, operation in (("create", k.create), ("create2", k.create2), ("container", k.create_container),
                        ("multi", lambda path, data: k.multi(k.create(path, data)))):
    @case("ours_only", name=f"quota_on_the_root_by_{name}", ours_only=True)
    def quota_on_the_root(t, operation=operation, name=name):
        a = t.connect("A")
        reply = a(operation("/zookeeper/quota/zookeeper_limits", b"count=1,bytes=1"))
        err = reply.values[0][0].err if name == "multi" else reply.err
        t.expect(err == k.BAD_ARGUMENTS, f"answered {err}")
        answers(t, a, k.exists("/zookeeper/quota/zookeeper_limits"), k.NO_NODE)
        still_serves(t)


for text in (b"garbage", b"", None, b"count=a,bytes=b", b"count=99999999999999999999"):
    @case("ours_only", name=f"garbage_in_quota_usage_{'null' if text is None else text.decode() or 'empty'}", ours_only=True)
    def garbage_in_usage(t, text=text):
        a, r = t.connect("A"), t.root
        a(*nodes(r), k.create(limits(r), b"count=100,bytes=100"), k.create(stats(r)))
        reply = a(k.set_data(stats(r), text))  # refused, or taken and survived
        t.expect(reply.err in (0, k.BAD_ARGUMENTS), f"answered {reply.err}")
        answers(t, a, k.create(r + "/c", b"123"), 0)
        answers(t, a, k.set_data(r + "/c", b"1"), 0)
        answers(t, a, k.delete(r + "/c"), 0)
        still_serves(t)


for parent in ("/zookeeper", "/zookeeper/x"):
    @case("ours_only", name=f"delete_of_limits_under{parent.replace('/', '_')}", ours_only=True)
    def delete_of_limits(t, parent=parent):
        a = t.connect("A")
        a(k.create("/zookeeper/x"), k.create(parent + "/zookeeper_limits"))
        answers(t, a, k.delete(parent + "/zookeeper_limits"), k.BAD_ARGUMENTS)
        still_serves(t)


@case("ours_only", ours_only=True)
def create_session_from_a_client(t):
    a = t.connect("A")
    reply = a(k.Request(k.CREATE_SESSION, k.i32(30000), "timeout=30000", ()))
    t.expect(reply is not None and reply.err == -6, "createSession was not refused as an unknown op")
    a.expect_close()
    t.connect("B", of=a)
    still_serves(t)


@case("ours_only", ours_only=True)
def cut_writes_never_use_a_zxid_twice(t):
    a = t.connect("A")
    last = answers(t, a, k.create(t.root + "/n"), 0).zxid
    for request in (k.create(t.root + "/m"), k.delete(t.root + "/n"), k.set_data(t.root + "/n"), k.set_acl(t.root + "/n", k.OPEN),
                    k.create_ttl(t.root + "/m", 10**7), k.multi(k.create(t.root + "/m"))):
        cut = answers(t, a, request.cut(3), -5).zxid
        now = answers(t, a, k.set_data(t.root, b"x"), 0).zxid
        t.expect(cut >= last and now > cut, f"zxids {last}, {cut}, {now}")
        last = now
    still_serves(t)


@case("ours_only", ours_only=True)
def write_behind_a_pipelined_set_acl_sees_it(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create(n))
    for round in range(20):
        replies = a(k.set_acl(n, k.READ_ONLY), k.set_data(n, b"no"), k.create(n + "/no"))
        t.expect([reply.err for reply in replies] == [0, k.NO_AUTH, k.NO_AUTH], f"round {round}: {[reply.err for reply in replies]}")
        t.connect(f"S{round}", behind=[k.auth("digest", t.settings["super"]), k.set_acl(n, k.OPEN), k.close_session()])
    still_serves(t)


@case("ours_only", ours_only=True)
def nothing_answers_behind_a_close_session(t):
    for number in range(20):
        a = t.connect(f"A{number}")
        a(k.close_session(), k.exists(t.root).unanswered(), k.create(f"{t.root}/n{number}").unanswered())
        a.expect_close()
        t.expect(not any("unexpected" in str(line) for _, lines in t.steps for line in lines), "an answer behind closeSession")
    names = t.connect("B")(k.get_children(t.root)).values[0]
    t.expect(names == [], f"a write behind closeSession was done: {names}")
    still_serves(t)

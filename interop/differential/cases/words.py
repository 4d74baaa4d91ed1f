"""Four-letter words: their answers' lines and keys, numbers where they must agree, whitelists."""
import re
import socket

import codec as k
from cases import case

WORDS = ("ruok", "isro", "gtmk", "srvr", "stat", "cons", "crst", "srst", "dirs", "conf", "envi", "dump", "wchs", "wchc", "wchp", "mntr", "hash")
NOT_WORDS = ("RUOK", "help", "lead", "obsr", "orst", "lsnp", "icfg", "sysp", "snap", "rest", "quit", "GET ", "ruo\n", "\r\n\r\n", "    ")
FIXED_KEYS = (
    "version server_state avg_latency min_latency max_latency packets_received packets_sent num_alive_connections outstanding_requests uptime "
    "znode_count watch_count ephemerals_count approximate_data_size global_sessions local_sessions open_file_descriptor_count "
    "max_file_descriptor_count connection_drop_probability last_client_response_size max_client_response_size min_client_response_size "
    "outstanding_tls_handshake auth_failed_count non_mtls_remote_conn_count non_mtls_local_conn_count").split()


def sessions(t, text, others="OTHER"):
    """The text with the ids of this case's sessions by name."""
    def name(match):
        number = int(match[0], 16)
        number -= 2**64 if number >= 2**63 else 0
        return t.mapper.sessions.get(number, others)
    return re.sub(r"0x[0-9a-f]{9,16}", name, text)


def shape(text):
    """Numbers, addresses and dates by their form."""
    text = re.sub(r"/(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+", "/ADDRESS:PORT", text)
    text = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} \d\d \d\d:\d\d:\d\d \S+ \d{4}", "DATE", text)
    text = re.sub(r"0x[0-9a-f]+", "HEX", text)
    return re.sub(r"-?\d+(\.\d+)?", lambda match: "DECIMAL" if match[1] else "N", text)


def note(t, title, lines):
    t.step(title)
    for line in lines:
        t.note(repr(line))


def mntr(t):
    lines = t.word(b"mntr").splitlines()
    return dict(line.removeprefix("zk_").split("\t", 1) for line in lines if line.startswith("zk_") and "\t" in line)


def quiet(t):
    """Waits until the server has noticed that the connections of earlier cases are gone."""
    t.until(lambda: t.word(b"wchs").startswith("0 connections watching 0 paths"), "no more watches of others")


@case()
def short_answers(t):
    for word in ("ruok", "isro", "gtmk", "crst", "srst"):
        note(t, word, [t.word(word.encode())])


@case()
def trace_mask(t):
    note(t, "stmk", [t.word(b"stmk", k.i64(300)), t.word(b"gtmk"), t.word(b"stmk", k.i64(306)), t.word(b"gtmk")])


@case()
def server_statistics(t):
    a = t.connect("A")
    a(k.create(t.root + "/n"))
    for word in (b"srvr", b"stat"):
        lines = t.word(word).splitlines()
        note(t, f"{word.decode()} in general", [
            "version ok" if re.fullmatch(r"Zookeeper version: \d+\.\d+\.\d+\S*-\S+, built on .+", line) else shape(line)
            for line in lines if not line.startswith(" /")])
        note(t, f"{word.decode()} values", [line for line in lines if line.startswith(("Mode:", "Node count"))])
        zxid = next(int(line.split("0x")[1], 16) for line in lines if line.startswith("Zxid: 0x"))
        note(t, "zxid", [t.mapper.zxid(zxid)])
    brief = [line for line in t.word(b"stat").splitlines() if line.startswith(" /")]
    t.expect(brief, "stat lists no connection")
    note(t, "brief connection lines", sorted(set(map(shape, brief))))


@case()
def node_counts_follow_the_tree(t):
    a, keys = t.connect("A"), ("znode_count", "ephemerals_count", "approximate_data_size", "watch_count", "global_sessions")
    quiet(t)
    before = mntr(t)
    steps = (lambda: a(k.create(t.root + "/n", b"12345")), lambda: a(k.create(t.root + "/e", b"1", flags=1)), lambda: a(k.set_data(t.root + "/n", b"1")),
             lambda: a(k.get_data(t.root, True), k.get_children(t.root, True), k.exists(t.root + "/x", True)), lambda: a(k.add_watch(t.root, 0)),
             lambda: a(k.add_watch(t.root, 1)), lambda: t.connect("B"), lambda: a(k.delete(t.root + "/n")), lambda: a(k.create_container(t.root + "/k")))
    for step in steps:
        step()
        now = mntr(t)
        note(t, "changes in mntr", [f"{key} {int(now[key]) - int(before[key]):+}" for key in keys])
        note(t, "Node count", [str(int(re.search(r"Node count: (\d+)", t.word(b"srvr"))[1]) - int(before["znode_count"]))])


@case()
def monitor_fixed_keys(t):
    t.connect("A")(k.create(t.root + "/n"))
    found = mntr(t)
    note(t, "mntr", [f"{key}: {'missing' if key not in found else 'text' if key == 'version' else shape(found[key])}" for key in FIXED_KEYS])
    note(t, "order of the first keys", [line.split("\t")[0] for line in t.word(b"mntr").splitlines()[:2]])


@case()
def monitor_counters(t):
    # Java prints some 470 more; those of ours grow with its metrics (docs/differences.md).
    found = mntr(t)
    note(t, "mntr", [f"{key}: {shape(found[key]) if key in found else 'missing'}" for key in ("connection_rejected", "digest_mismatches_count", "snap_count")])


@case()
def monitor_lines(t):
    note(t, "forms of mntr's lines", sorted({re.sub(r"^zk_\S+", "KEY", shape(line)) for line in t.word(b"mntr").splitlines()
                                             if not line.startswith(("zk_version", "zk_server_state", "zk_jvm_"))
                                             and "NaN" not in line}))


def connection_line(t, client):
    lines = [line for line in t.word(b"cons").split("\n") if f"sid={hex(client.session % 2**64)}," in line]
    t.expect(len(lines) == 1, f"{len(lines)} lines of one session")
    def zxid(match):
        value = int(match[2], 16)
        return match[1] + t.mapper.zxid(value - 2**64 if value >= 2**63 else value)
    line = sessions(t, re.sub(r"(lzxid=)0x([0-9a-f]+)", zxid, lines[0]))
    line = re.sub(r"(queued|sent|est|lresp|llat|minlat|avglat|maxlat)=-?\d+", r"\1=N", line)
    return re.sub(r"/[\d.]+:\d+\[\w+\]", "/ADDRESS:PORT[OPS]", line)


REQUESTS = {
    "CREA": k.create("/x/x/x"), "CREA2": k.create2("/x/x/x"), "DELE": k.delete("/x/x/x"), "EXIS": k.exists("/"), "GETD": k.get_data("/"), "SETD": k.set_data("/x/x/x"),
    "GETA": k.get_acl("/"), "SETA": k.set_acl("/x/x/x", k.OPEN), "GETC": k.get_children("/"), "GETC2": k.get_children2("/"), "SYNC": k.sync("/"), "MULT": k.multi(),
    "MLTR": k.multi_read(), "PING": k.ping(), "GETACN": k.get_all_children_number("/zookeeper"), "GETE": k.get_ephemerals("/"), "SETW": k.set_watches(0),
    "STW2": k.set_watches2(0), "ADDW": k.add_watch("/x/x", 0), "CHKW": k.check_watches("/x/x", 3), "REMW": k.remove_watches("/x/x", 3), "HOMI": k.who_am_i(),
    "RECO": k.reconfig(), "AUTH": k.auth("digest", b"u:p"), "container": k.create_container("/x/x/x"), "malformed": k.raw(k.EXISTS),
}


for request_name, one_request in REQUESTS.items():
    @case(name=f"connection_line_after_{request_name}")
    def connection_line_after(t, request=one_request):
        a = t.connect("A")
        a(k.Request(request.op, request.body, request.text.partition(" ")[2], None, request.xid))
        note(t, "cons", [connection_line(t, a)])


@case()
def connection_lines(t):
    a = t.connect("A")
    note(t, "cons", [connection_line(t, a)])
    a(k.set_data(t.root, b"1").with_xid(2**31 - 1))
    note(t, "cons after a success", [connection_line(t, a)])
    a(k.exists(t.root), k.create(t.root + "/n"), k.set_watches(0), k.ping(), k.delete(t.root + "/n"))
    note(t, "cons after more", [connection_line(t, a)])
    t.word(b"crst")
    note(t, "cons after crst", [connection_line(t, a)])


@case()
def connection_line_of_a_fresh_socket(t):
    a = t.socket("A")
    lines = t.word(b"cons").split("\n")
    note(t, "cons", sorted({shape(line) for line in lines if "sid=" not in line}))
    t.expect(lines[-1] == "", "no empty line at the end")
    a.disconnect()


@case()
def reset_of_statistics(t):
    t.connect("A")(k.create(t.root + "/n"), k.get_data(t.root))
    t.word(b"srst")
    note(t, "srvr after srst", [shape(line) for line in t.word(b"srvr").splitlines()[1:]])
    found = mntr(t)
    note(t, "small numbers after srst", [str(int(found["packets_received"]) < 20), str(int(found["packets_sent"]) < 20)])


@case()
def directories(t):
    note(t, "dirs", [shape(line) for line in t.word(b"dirs").split("\n")])


@case()
def configuration(t):
    lines = t.word(b"conf").split("\n")
    kept = ("tickTime", "maxClientCnxns", "minSessionTimeout", "maxSessionTimeout", "clientPortListenBacklog", "serverId", "secureClientPort")
    note(t, "conf", [line if line.split("=")[0] in kept else line.split("=")[0] for line in lines])
    t.note(f"version-2 at the end of directories: {[line.endswith('version-2') for line in lines if 'Dir=' in line]}")
    t.note(f"client port {f'clientPort={t.port}' in lines}")


@case()
def environment(t):
    lines = t.word(b"envi").split("\n")
    note(t, "envi", [line.split("=")[0] for line in lines])
    note(t, "memory", [shape(line) for line in lines if line.startswith("os.memory")])


@case()
def watch_summary(t):
    a, b, r = t.connect("A"), t.connect("B"), t.root
    quiet(t)
    note(t, "wchs", [t.word(b"wchs"), t.word(b"wchc"), t.word(b"wchp")])
    for step in (lambda: a(k.get_data(r, True)), lambda: a(k.exists(r + "/x", True)), lambda: a(k.get_children(r, True)), lambda: b(k.get_data(r, True)),
                 lambda: b(k.add_watch(r, 0)), lambda: b(k.add_watch(r + "/y", 1)), lambda: b(k.get_children(r + "/none", True)),
                 lambda: a(k.set_data(r)), lambda: b(k.remove_watches(r, 3))):
        step()
        note(t, "wchs", [t.word(b"wchs")])
        for word in (b"wchc", b"wchp"):
            text = sessions(t, t.word(word))
            blocks = re.findall(r"[^\t\n][^\n]*\n(?:\t[^\n]*\n)*", text)
            note(t, word.decode(), sorted("|".join([block.split("\n")[0]] + sorted(block.split("\n")[1:-1])) for block in blocks))
            t.note(f"ends in an empty line: {text.endswith(chr(10) * 2)}")


@case()
def dump_of_sessions(t):
    a, b, r = t.connect("A"), t.connect("B"), t.root
    a(k.create(r + "/e1", flags=1), k.create(r + "/e2", flags=1), k.create(r + "/p"))
    b(k.create(r + "/e3", flags=1))
    lines = sessions(t, t.word(b"dump")).split("\n")
    # Which sessions share a bucket is a matter of time: the bucket lines count once.
    note(t, "forms of dump's lines", sorted({shape(line) for line in lines}))
    first = [shape(line) for line in lines if line and not line.startswith("\t") and "expire at" not in line and not line.startswith(("S", "OTHER"))]
    note(t, "order of its headings", first)
    ephemerals = lines[lines.index(next(line for line in lines if line.startswith("Sessions with Ephemerals"))):]
    ephemerals = ephemerals[:ephemerals.index(next(line for line in ephemerals if line.startswith("Connections dump")))]
    text = "\n".join(ephemerals[1:])
    blocks = [block for block in re.findall(r"(\w+:\n(?:\t[^\n]*\n?)*)", text + "\n")]
    note(t, "ephemerals", [ephemerals[0]] + sorted("|".join([block.split("\n")[0]] + sorted(block.split("\n")[1:])) for block in blocks))


@case()
def history_of_digests(t):
    a = t.connect("A")
    a(*[k.set_data(t.root, b"x") for _ in range(260)])
    lines = t.word(b"hash").splitlines()
    note(t, "hash", sorted({re.sub(r"\d+$", "DIGEST", re.sub(r"^[0-9a-f]+", "ZXID", line)) for line in lines}))
    t.expect(lines, "an empty history after 260 txns")
    t.note(f"all divisible by 128: {all(int(line.split(':')[0], 16) % 128 == 0 for line in lines)}")


for configuration_name in ("plain", "narrow", "old"):
    @case(configuration_name, name=f"whitelist_of_{configuration_name}")
    def whitelist(t):
        for word in WORDS + ("stmk",):
            answer = t.word(word.encode(), k.i64(306) if word == "stmk" else b"")
            refused = "is not executed" in answer
            note(t, word, [answer if refused else f"{'nothing' if not answer else 'an answer'}"])


@case()
def what_is_no_word(t):
    for word in NOT_WORDS:
        note(t, repr(word), [t.word(word.encode())])


def answer(t, pieces, half_close=False, pause=None):
    with socket.create_connection(("127.0.0.1", t.port), 30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        text = b""
        try:
            while part := connection.recv(65536):
                text += part
        except ConnectionResetError:
            pass
        return text.decode()


@case()
def ways_to_send_a_word(t):
    note(t, "ways", [answer(t, [b"ruok"]), answer(t, [b"ruok\n"]), answer(t, [b"ruok\r\n"]), answer(t, [b"r", b"u", b"o", b"k"]),
                     answer(t, [b"ruok"], half_close=True), answer(t, [b"isro and more"]), answer(t, [b"ru"], half_close=True),
                     answer(t, [b"\xff\xf4\xff\xfd\x06"])])


@case()
def no_word_after_a_session(t):
    a = t.connect("A")
    a.send_bytes(b"ruok", "a word behind the handshake")
    a.expect_close()

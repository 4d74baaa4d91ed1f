#!/usr/bin/env python3
"""Writes what fuzzing begins with to fuzz/corpus/: the bytes recorded from Java, cut to each target's form."""

import pathlib
import struct

here = pathlib.Path(__file__).resolve().parent
golden = here.parent / "crates" / "wire" / "tests" / "golden"


def lines(name):
    for line in (golden / name).read_text().splitlines():
        key, _, text = line.partition(" ")
        yield key, bytes.fromhex(text)


def put(target, name, content):
    directory = here / "corpus" / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"seed-{name}").write_bytes(content)


def piece(content):
    return struct.pack(">H", len(content)) + content


sessions = {}
writes = {}
for name, frame in lines("session.hex"):
    if ".request" not in name:
        continue
    if ".connect." in name:
        sessions[name] = frame
    else:
        last = list(sessions)[-1]
        sessions[last] += frame
        op = struct.unpack(">i", frame[8:12])[0]
        writes.setdefault(last, []).append(bytes([op & 0xFF]) + frame[12:])
        put("client_request", name, bytes([op & 0xFF]) + frame[12:])
for name, frames in sessions.items():
    put("frames", name, frames)
for name, requests in writes.items():
    for mode in (0, 1, 5, 16):
        for pace in (0x10, 0x00, 0x25):
            steps = b"".join(piece(bytes([pace]) + request) for request in requests)
            put("writes", f"{name}-{mode}-{pace}", bytes([mode]) + steps)

for name, content in lines("records.hex"):
    if "Txn" in name:
        put("txn_entry", name, content)

records = [content for name, content in lines("storage.hex") if name.startswith("log.")]
entries = [record[12:-1] for record in records]
for number, entry in enumerate(entries):
    put("txn_entry", f"log-{number}", entry)
log = b"ZKLG" + struct.pack(">iq", 2, 0) + b"".join(records)
put("log_reader", "files", b"\0\xff" + log + bytes(64))
put("log_reader", "torn", b"\0\xff" + log[:-7])
put("log_reader", "entries", b"\x03\xff" + b"".join(map(piece, entries)))
put("log_reader", "two", b"\x03\x04" + b"".join(map(piece, entries)))

snapshot = next(content for name, content in lines("storage.hex") if name == "snapshot")
# Three seals, the digest and the zxid stand behind the end of the znodes.
znodes = snapshot[16 : len(snapshot) - 5 - 13 - 20 - 13 - 8 - 13]
put("snapshot_reader", "file", b"\0" + snapshot)
put("snapshot_reader", "records", b"\3" + znodes)
stream = znodes + b"\0\0\0\1/" + struct.pack(">i", 10) + b"BenWasHere"
for mode in range(4):
    put("snapshot_intake", f"stream-{mode}", bytes([mode, 1, 200]) + stream + b"the next packet")
    put("snapshot_intake", f"records-{mode}", bytes([mode | 4, 7, 90]) + znodes)
for mode in range(8):
    before = piece(znodes) if mode & 4 else b""
    put("recovery", f"all-{mode}", bytes([mode]) + before + b"".join(map(piece, entries)))
    put("recovery", f"few-{mode}", bytes([mode]) + before + b"".join(map(piece, entries[:12])))
    put("recovery", f"none-{mode}", bytes([mode]) + before)

put("zoo_cfg", "usual", b"tickTime=2000\ndataDir=/nowhere/data\nclientPort=2181\ninitLimit=5\nsyncLimit=2\n")
put("zoo_cfg", "rich", rb"""# comment
! another
dataDir : /nowhere/data
dataLogDir /nowhere/log
clientPort=\u0032181
clientPortAddress=127.0.0.1
tickTime=\
    2000
maxClientCnxns=0
minSessionTimeout=4000
maxSessionTimeout=40000
autopurge.snapRetainCount=3
autopurge.purgeInterval=1
4lw.commands.whitelist=stat, ruok, *
snapshot.compression.method=gz
extendedTypesEnabled=true
jute.maxbuffer=0xfffff
authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider
""")
put("zoo_cfg", "ensemble", b"dataDir=/nowhere\nclientPort=2181\nserver.1=a:2888:3888\nserver.2=b:2888:3888:observer;2182\n")

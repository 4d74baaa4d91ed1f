"""Names and texts of quota nodes."""
import codec as k

HARD = b"count=-1,bytes=-1=;byteHardLimit=%d;countHardLimit=%d"


def nodes(path):
    """Creates of a quota's parents under /zookeeper/quota."""
    parts = path.strip("/").split("/")
    return [k.create("/zookeeper/quota/" + "/".join(parts[:number])) for number in range(1, len(parts) + 1)]


def limits(path):
    return f"/zookeeper/quota{path}/zookeeper_limits"


def stats(path):
    return f"/zookeeper/quota{path}/zookeeper_stats"

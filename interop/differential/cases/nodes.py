"""delete, setData, setACL of single nodes: results, order of checks, versions, Stats."""
import codec as k
from cases import case


@case()
def set_data_versions(t):
    a, n = t.connect("A"), t.root + "/n"
    a(k.create2(n, b"0"))
    for version in (0, 0, 1, -1, -1, 99, -2, -2**31, 2**31 - 1, 3):
        a(k.set_data(n, b"x", version))
    a(k.exists(n))
    a(k.exists(n + "x"))
    a(k.set_data(n, b"x", 4))
    a(k.set_data(n, b"x" * 100, 4))
    a(k.set_data(n, None, 5))
    a(k.get_data(n))
    a(k.set_data(n, b"", 6))
    a(k.get_data(n))

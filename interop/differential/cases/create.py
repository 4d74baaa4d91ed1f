"""create, create2: results, order of checks, sequential names."""
import codec as k
from cases import case


@case()
def plain_and_stat(t):
    a = t.connect("A")
    a(k.create(t.root + "/n", b"data"))
    a(k.create2(t.root + "/m", None))
    a(k.get_data(t.root + "/n"))
    a(k.get_data(t.root + "/m"))
    a(k.get_data(t.root))
    a(k.get_children2(t.root, watch=True))
    b = t.connect("B")
    b(k.create2(t.root + "/e", b"", flags=k.EPHEMERAL))
    b(k.create2(t.root + "/e2", b"", flags=k.EPHEMERAL_SEQUENTIAL))

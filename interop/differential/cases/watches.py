"""Watches: what sets them, what fires them, in which order, and what removes them."""
import codec as k
from cases import case


@case()
def one_shot(t):
    a, b, n = t.connect("A"), t.connect("B"), t.root + "/n"
    a(k.exists(n, watch=True))
    b(k.create(n))
    b(k.set_data(n, b"1"))
    a(k.get_data(n, watch=True))
    b(k.set_data(n, b"2"))
    b(k.set_data(n, b"3"))
    a(k.exists(n, watch=True))
    b(k.delete(n))
    a(k.exists(n))

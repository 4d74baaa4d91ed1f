"""Compares two transcripts and shows where they part."""
import itertools

CONTEXT_STEPS = 4
COLUMN = 100


def first_difference(left, right):
    """The number of the first step that differs, or None."""
    for number, (one, other) in enumerate(itertools.zip_longest(left, right)):
        if one != other:
            return number
    return None


def side_by_side(left, right, number, names):
    """The steps before the one that differs, then that step with both sides' lines."""
    made = []
    for title, lines in left[max(0, number - CONTEXT_STEPS):number]:
        made.append(f"    {title}")
        made += [f"        {line}" for line in lines]
    one = left[number] if number < len(left) else ("(no further step)", [])
    other = right[number] if number < len(right) else ("(no further step)", [])
    if one[0] == other[0]:
        made.append(f"  > {one[0]}")
    else:
        made += [f"  > {names[0]}: {one[0]}", f"  > {names[1]}: {other[0]}"]
    for a, b in itertools.zip_longest(one[1], other[1]):
        if a == b:
            made.append(f"        {a}")
        else:
            made += [f"    {side:>10} | {'(nothing)' if line is None else line}" for side, line in zip(names, (a, b))]
    return "\n".join(made)

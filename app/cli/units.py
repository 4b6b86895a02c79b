"""Numbers as people read them."""


def bytes_text(count: float) -> str:
    """`63.9 MiB`; whole bytes below 1 KiB."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if abs(count) < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def share_text(part: int, whole: int) -> str:
    """`97.3 %`; of nothing it is a dash."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def seconds_text(seconds: float) -> str:
    """`850 ms`, `12.3 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for size, name, small, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size:.0f} {name} {seconds % size // small:.0f} {small_name}"
    raise AssertionError(seconds)

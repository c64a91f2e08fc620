"""``Unusable``: why an item is set aside, in words that can be stored and printed."""

from __future__ import annotations


class Unusable(Exception):
    """An item that cannot be read; its text is the reason."""


def plain(value: object, length: int = 300) -> str:
    """Text of anything that an item says, such that it can be stored and printed."""
    try:
        text = str(value).encode("utf-8", "replace").decode("utf-8")
    except RecursionError:
        text = "something nested too deeply"
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:length]

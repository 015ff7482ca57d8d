"""Text from outside (names of files and classes, answers of servers): safe to show, in order."""

import re

# Control characters, line separators, what turns the direction of writing, and lone surrogates
# (bytes of a file name that are no UTF-8, which no terminal can be sent).
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Escape control characters, so that text is one line that a terminal shows as it is.

    >>> visible("a\x1b[31mb\nc")
    'a\\x1b[31mb\\nc'
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def natural_key(name: str) -> tuple[tuple[str, int], ...]:
    """Natural sort key: digits count as one number, so `frame_9` comes before `frame_10`.

    Names whose numbers are padded to one width come in the order of their characters.
    """
    # A number sorts where a digit sorts among the characters, and then by its value.
    parts = re.findall(r"[0-9]+|[^0-9]", name)
    return tuple(("0", int(part)) if part[0] in "0123456789" else (part, 0) for part in parts)

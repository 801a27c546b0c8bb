"""Text that people write: causes, notes, names. It stands in ledgers, terminals, alerts and pages, and is a line there.

Whoever may say why he rolls back must not be able to write another line of a status, clear a terminal, or turn a
sentence around.
"""

from __future__ import annotations

import unicodedata

#: In place of a character that does something instead of being seen.
UNSEEN = "\ufffd"


def one_line(text: str) -> str:
    """``text`` on one line: runs of white space are a space, and what cannot be seen is :data:`UNSEEN`."""
    return without_controls(" ".join(text.split()))


def without_controls(text: str, *, but: str = "") -> str:
    """``text`` without what acts on whoever shows it: control characters, turns of direction, halves of characters.

    :param but: characters that may stay, as line ends do where a text has lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in but or not _acts(char) else UNSEEN for char in text)


def _acts(char: str) -> bool:
    category = unicodedata.category(char)
    # Joiners hold an emoji together, and are no harm.
    return category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and char not in "\u200c\u200d")

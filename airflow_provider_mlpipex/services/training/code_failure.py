"""What may be said of an exception of a team's own code: its class, its place, and text without values of its rows."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

#: What stands in a text where it quoted a value.
MASKED = "…"
#: How much of a text is read; an exception may quote a whole table.
_READ = 4000
_SHOWN = 500
_OURS = __name__.partition(".")[0]
#: A number, also with digits in groups, or a run of letters.
_WORD = re.compile(r"\d{1,3}(?:[,_]\d{3})+(?:\.\d+)?|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[^\W\d_]+")


class Place(NamedTuple):
    """A line of code: its file from the top of its package on, its number, and the function it is in."""

    file: str
    line: int
    function: str
    package: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, {self.function}"


def describe_failure(error: Exception, *, code: str, rows: Iterable[pd.DataFrame] = ()) -> str:
    """Class, place and text of ``error``, for a message; the places that it came through go to the log.

    :param code: what raised it, in the user's words, for the log.
    :param rows: the tables whose values the text may quote; these are masked in it. Without a table nobody can say
        what in a text is a value, so only texts of Python and of the operating system themselves are shown then.
    """
    places = log_places(error, code=code)
    kind, known = type(error).__name__, tuple(rows)
    text = without_values(_text_of(error), known) if known else _plain_text(error, entered=bool(places))
    text = text[:_SHOWN]
    shown = f"{kind}: {text}" if text else f"{kind} (its text is left out, since it may quote rows)"
    own = [place for place in places if place.package == places[0].package]
    return f"{shown}, at {own[-1]}" if own else shown


def log_places(error: Exception, *, code: str) -> list[Place]:
    """Log the lines that ``error`` came through, without its text; return them."""
    places = places_of(error)
    if places:
        lines = "\n".join(f"  {at}" for at in places)
        _log.error("%s raised %s; most recent call last:\n%s", code, type(error).__name__, lines)
    return places


def without_values(text: str, tables: Iterable[pd.DataFrame]) -> str:
    """``text`` with each word and number masked that is of a value in ``tables``; rounded numbers count too."""
    columns = [table.iloc[:, index] for table in tables for index in range(table.shape[1])]
    numbers = [column for column in columns if column.dtype.kind in "iuf"]
    others = [column for column in columns if column.dtype.kind not in "iuf"]
    # The longest first: a short value may be a part of a long one.
    for form in sorted({form for column in others for form in _quoted(text, column)}, key=len, reverse=True):
        text = text.replace(form, MASKED)
    words = {word.casefold() for word in _WORD.findall(text)}
    hidden = {word for word in words if any(_is_number_of(word, column) for column in numbers)}
    for column in others:
        for value in _unique(column):
            written = str(value)
            hidden |= words.intersection(word.casefold() for word in _WORD.findall(_escaped(written)))
            if not isinstance(value, str | bool):
                # Dates, decimals and lists are written in many ways: no digit is shown beside them.
                hidden |= {word for word in words if any(map(str.isdecimal, word))}
    return _WORD.sub(lambda match: MASKED if match[0].casefold() in hidden else match[0], text)


def _quoted(text: str, column: pd.Series) -> Iterator[str]:
    """Texts of ``column`` that stand in ``text``; short ones, which may be a part of any word, only if no words."""
    for value in _unique(column):
        if isinstance(value, str):
            for form in {value, repr(value)[1:-1], ascii(value)[1:-1]}:
                if form.strip() and form in text and (len(form) > 3 or not _WORD.search(form)):
                    yield form


def _escaped(written: str) -> str:
    """A text as it is, and as ``repr`` and ``ascii`` write it: escapes make other words."""
    return "\n".join((written, repr(written), ascii(written)))


def _unique(column: pd.Series) -> Iterator[Any]:
    try:
        yield from column.dropna().unique()
    except TypeError:  # lists and dictionaries cannot be compared
        yield from column.dropna()


def _is_number_of(word: str, column: pd.Series) -> bool:
    """Whether a value of ``column`` may have been written as ``word``, with or without sign, perhaps rounded."""
    if not any(map(str.isdecimal, word)):
        return False
    import numpy as np

    values = np.abs(column.dropna().to_numpy(dtype=np.float64))
    values = values[np.isfinite(values)]
    whole = bool((values == np.floor(values)).all())
    # 1,234 is one number or two.
    for written in {word.replace(",", "").replace("_", ""), *re.split("[,_]", word)}:
        number = float(written)
        if whole and written.isdecimal():
            near = values == number
        else:
            mantissa, _, exponent = written.partition("e")
            last = int(exponent or 0) - len(mantissa.partition(".")[2])
            near = np.abs(values - number) <= max(10.0 ** max(-300, min(300, last)), number * 1e-6)
        if near.any():
            return True
    return False


def _plain_text(error: Exception, *, entered: bool) -> str:
    """The text of ``error`` where no row can be in it."""
    if isinstance(error, TypeError) and not entered:
        return _text_of(error)  # Python's own, of arguments that the callable does not take
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return os.strerror(error.errno)
    return ""


def _text_of(error: Exception) -> str:
    try:
        text = str(error)
    except Exception as unable:  # noqa: BLE001  a team's own class may be unable to say what it is
        return f"its own text cannot be had, for that raises {type(unable).__name__}"
    return text[:_READ]


def places_of(error: BaseException) -> list[Place]:
    """The lines that ``error`` came through, from the first one that is not ours."""
    places = [_place(frame, line) for frame, line in walk_tb(error.__traceback__)]
    outside = next((index for index, place in enumerate(places) if place.package != _OURS), len(places))
    return places[outside:]


def _place(frame: FrameType, line: int) -> Place:
    code, module = frame.f_code, str(frame.f_globals.get("__name__", ""))
    file = "/".join(Path(code.co_filename).parts[-module.count(".") - 1 :])
    return Place(file, line, code.co_name, module.partition(".")[0])

"""One sketch as bytes for the store: narrow integers, compressed; a minute of a column takes some hundred bytes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from airflow_provider_mlpipex.domain.drift.sketches import OUTSIDE_BINS, Ints, Sketch
from airflow_provider_mlpipex.domain.errors import SketchUnusable

_FORMAT = 1
#: Format, filled bins, groups, code of each array's integers, smallest and largest value.
_HEAD = struct.Struct("<BIH4sdd")
_NUMBERS = (*OUTSIDE_BINS, "total", "squares", "beyond")
#: Sums may exceed 64 bits where billions of far values were merged.
_NUMBER_BYTES = 16
_WIDTHS = "bhiq"


def pack(sketch: Sketch) -> bytes:
    """``sketch`` without the identity of its bins, which is that of the store's reference."""
    arrays = (
        # Neighbours lie close together: as distances they mostly fit one byte.
        np.diff(sketch.filled, prepend=0),
        sketch.counts,
        sketch.group_rows,
        sketch.group_scores,
    )
    narrow = [_narrow(array) for array in arrays]
    codes = "".join(array.dtype.char for array in narrow).replace("l", "q").encode()
    head = _HEAD.pack(_FORMAT, len(sketch.filled), len(sketch.group_rows), codes, sketch.minimum, sketch.maximum)
    numbers = [int(getattr(sketch, name)).to_bytes(_NUMBER_BYTES, "little", signed=True) for name in _NUMBERS]
    return zlib.compress(b"".join([head, *numbers, *(array.tobytes() for array in narrow)]), 1)


def unpack(packed: bytes, bins: str) -> Sketch:
    """What :func:`pack` wrote, over ``bins``.

    :raises SketchUnusable: it is not that.
    """
    try:
        raw = zlib.decompress(packed)
        version, filled, groups, codes, minimum, maximum = _HEAD.unpack_from(raw)
        if version != _FORMAT:
            raise ValueError(f"format {version}")
        at = _HEAD.size
        numbers = {}
        for name in _NUMBERS:
            numbers[name] = int.from_bytes(raw[at : at + _NUMBER_BYTES], "little", signed=True)
            at += _NUMBER_BYTES
        arrays = []
        for code, count in zip(codes.decode(), (filled, filled, groups, groups), strict=True):
            array = np.frombuffer(raw, dtype=f"<{code}", count=count, offset=at)
            at += array.nbytes
            arrays.append(array.astype(np.int64))
        if at != len(raw):
            raise ValueError(f"{len(raw) - at} bytes too many")
    except (zlib.error, struct.error, ValueError, TypeError) as error:
        raise SketchUnusable(
            "stored sketch",
            value=f"{type(error).__name__}: {error}",
            limit="as it was written",
            remedy="move the store of this release away: what its prediction log still holds is counted again",
        ) from error
    distances, counts, group_rows, group_scores = arrays
    return Sketch(
        bins=bins,
        filled=np.cumsum(distances),
        counts=counts,
        group_rows=group_rows,
        group_scores=group_scores,
        minimum=minimum,
        maximum=maximum,
        **numbers,
    )


def difference(whole: Sketch, part: Sketch, *, minimum: float, maximum: float) -> Sketch:
    """The rows of ``whole`` that are not in ``part``, which is some of them.

    :param minimum: extremes of those rows, which cannot be had by subtraction.
    """
    size = int(max(whole.filled.max(initial=-1), part.filled.max(initial=-1))) + 1
    counts = whole.dense(size) - part.dense(size)
    filled = np.flatnonzero(counts)
    return Sketch(
        bins=whole.bins,
        filled=filled,
        counts=counts[filled],
        group_rows=whole.group_rows - part.group_rows,
        group_scores=whole.group_scores - part.group_scores,
        minimum=minimum,
        maximum=maximum,
        **{name: getattr(whole, name) - getattr(part, name) for name in _NUMBERS},
    )


def _narrow(array: Ints) -> NDArray[np.signedinteger]:
    """The smallest integers that hold it, little-endian."""
    low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
    code = next(code for code in _WIDTHS if np.iinfo(code).min <= low and high <= np.iinfo(code).max)
    return array.astype(f"<{code}")

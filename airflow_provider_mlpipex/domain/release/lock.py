"""A lock file: pinned requirements as ``uv pip compile``, ``pip-compile`` and ``pip freeze`` write them.

Every line pins one version of one distribution, for the machines that its marker names, with the hashes of its files
where any line has them. What decides the bytes that are installed is in :attr:`Lock.digest`: pins, markers, hashes and
the indexes they come from. Comments and order are not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from packaging.markers import InvalidMarker, Marker

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([A-Za-z0-9.!+_-]+)\s*(?:;\s*(.+))?")
_HASH = re.compile(r"\s--hash[= ](\S+)")
_HASH_VALUE = re.compile(r"sha(?:256|384|512):[0-9a-f]{64,128}")
#: Options that say where distributions come from, and in which form.
_OPTION = re.compile(
    r"(-i|--index-url|--extra-index-url|-f|--find-links|--only-binary|--no-binary|--trusted-host)[= ]\s*(\S+)"
    r"|(--no-index|--pre|--prefer-binary|--require-hashes)"
)
_SHORT = {"-i": "--index-url", "-f": "--find-links"}


class LockRefused(ValueError):
    """:param line: that pins nothing. :param limit: what a line may be."""

    def __init__(self, line: str, limit: str) -> None:
        self.line = line
        self.limit = limit
        super().__init__(f"{line}: {limit}")


@dataclass(frozen=True)
class Pin:
    """One version of one distribution; ``marker`` names the machines it is for, empty for all."""

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """``name==version``."""
        return f"{self.name}=={self.version}"

    @property
    def line(self) -> str:
        """The pin as it counts for the digest."""
        marker = f" ; {self.marker}" if self.marker else ""
        return "".join([self.requirement, marker, *(f" --hash={each}" for each in self.hashes)])

    @property
    def applies_here(self) -> bool:
        """Whether this interpreter's machine is one that the marker names."""
        return not self.marker or Marker(self.marker).evaluate({"extra": ""})


@dataclass(frozen=True)
class Lock:
    """The pins of a lock file and the options that it gives the installer."""

    pins: tuple[Pin, ...]
    options: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What decides the bytes that are installed, sorted."""
        return [*self.options, *sorted(pin.line for pin in self.pins)]

    @property
    def digest(self) -> str:
        """SHA-256 of :attr:`lines`."""
        return _sha256("\n".join(self.lines))

    @property
    def digests(self) -> tuple[str, str]:
        """:attr:`digest`, and the one that versions before markers counted have given such a lock."""
        return self.digest, _sha256("\n".join(sorted(pin.requirement for pin in self.pins)))

    @property
    def installed_here(self) -> list[str]:
        """``name==version`` of every distribution that the lock means for this machine."""
        return sorted(pin.requirement for pin in self.pins if pin.applies_here)

    @classmethod
    def parse(cls, text: str) -> Lock:
        """:raises LockRefused: naming the first line that pins nothing."""
        joined = re.sub(r"\\\r?\n", " ", text)
        lines = [line for raw in joined.splitlines() if (line := re.sub(r"(^|\s)#.*$", "", raw).strip())]
        options = [_option(line) for line in lines if line.startswith("-")]
        pins = [_pin(line) for line in lines if not line.startswith("-")]
        if not pins:
            raise LockRefused("no lines", "name==version on every line")
        if any(pin.hashes for pin in pins):
            bare = next((pin for pin in pins if not pin.hashes), None)
            if bare is not None:
                raise LockRefused(bare.requirement, "--hash on every line, because another line has one")
        return cls(tuple(pins), tuple(dict.fromkeys(options)))


def _pin(line: str) -> Pin:
    hashes = tuple(sorted(_HASH.findall(line)))
    match = _PIN.fullmatch(_HASH.sub("", line).strip())
    if match is None:
        raise LockRefused(line, "name==version on every line")
    bad = next((each for each in hashes if not _HASH_VALUE.fullmatch(each)), None)
    if bad is not None:
        raise LockRefused(line, f"hashes like sha256:… of 64 hex digits, not {bad}")
    try:
        marker = str(Marker(match.group(3))) if match.group(3) else ""
    except InvalidMarker:
        raise LockRefused(line, "a marker like python_version < '3.12' behind the semicolon") from None
    return Pin(canonical_name(match.group(1)), match.group(2), marker, hashes)


def _option(line: str) -> str:
    match = _OPTION.fullmatch(line)
    if match is None:
        raise LockRefused(line, "name==version, or an option that says where it comes from, such as --index-url")
    name, value, flag = match.groups()
    if flag:
        return str(flag)
    password = urlsplit(value).password
    if password and not password.startswith("${"):
        # The lock is kept and shown; a password in it would be, too.
        raise LockRefused(
            f"{name} …", "no password in the lock; write ${NAME}, and set NAME where environments are built"
        )
    return f"{_SHORT.get(name, name)} {value}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_name(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()

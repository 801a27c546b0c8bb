"""Addresses as people and logs may see them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

#: Query fields that hold a secret in the addresses of databases and services.
_SECRET_FIELDS = ("password", "passwd", "pwd", "token", "secret", "key", "sig", "signature")
_HIDDEN = "***"
_CREDENTIALS = re.compile(r"://[^/\s@]+@")


def without_credentials(url: str) -> str:
    """``url`` without user, password and secret query fields; what is no url is returned as it is.

    >>> without_credentials("postgresql+psycopg://mlpipex:s3cret@db:5432/ledger?sslmode=require")
    'postgresql+psycopg://db:5432/ledger?sslmode=require'
    """
    parts = _split(url)
    if parts is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    query = urlencode(
        [
            (name, _HIDDEN if name.lower().endswith(_SECRET_FIELDS) else value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        ],
        safe="*",
    )
    # Put together by hand: urllib leaves out an empty authority, and SQLite's slashes say that it is empty.
    behind = "".join(mark + text for mark, text in (("?", query), ("#", parts.fragment)) if text)
    return f"{parts.scheme}://{host}{parts.path}{behind}"


def hide_credentials(text: str) -> str:
    """``text``, which some library wrote, with user and password of every address in it hidden. Cut it afterwards.

    >>> hide_credentials("Max retries exceeded: http://ada:s3cret@mlflow:5000/api")
    'Max retries exceeded: http://***@mlflow:5000/api'
    """
    return _CREDENTIALS.sub(f"://{_HIDDEN}@", text)


def secrets_of(url: str) -> tuple[str, ...]:
    """What of ``url`` must not stand in a log: its password and secret query fields, as written and as sent."""
    parts = _split(url)
    if parts is None:
        return ()
    written = [parts.password or ""]
    written += [value for name, value in parse_qsl(parts.query) if name.lower().endswith(_SECRET_FIELDS)]
    return tuple(dict.fromkeys(form for secret in written if secret for form in (secret, unquote(secret))))


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.password
    except ValueError:
        return None
    return parts if parts.scheme and "://" in url else None

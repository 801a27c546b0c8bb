"""Who may ask the plane for what: one token file a scope, in the plane's state folder, readable by its owner alone.

The control API takes the tokens of :data:`SCOPES`, the ingress those of :data:`INGRESS_SCOPES`; none is taken at both.

Whoever deploys may also take back what was deployed, and read. Nobody's token does everything: clients' predictions
and drills (faults on purpose) want tokens of their own. Files are read again when they change, so a token is rotated
without a restart; the one before goes on being taken for a stated time.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.serving.envoy.ingress_tokens import IngressTokens
from airflow_provider_mlpipex.serving.state_dir import read_or_make_token, write_token

Scope = Literal["read", "rollback", "deploy", "drill"]
IngressScope = Literal["clients", "testers", "batch"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
INGRESS_SCOPES: tuple[IngressScope, ...] = get_args(IngressScope)
#: What the holder of each token may do.
GRANTS: dict[Scope, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "rollback": frozenset({"read", "rollback"}),
    "deploy": frozenset({"read", "rollback", "deploy"}),
    "drill": frozenset({"read", "drill"}),
}
INGRESS_GRANTS: dict[IngressScope, frozenset[IngressScope]] = {
    "clients": frozenset({"clients"}),
    "testers": frozenset({"clients", "testers"}),
    "batch": frozenset({"clients", "batch"}),
}
#: ``token`` is the name that connections and compose files of earlier versions have for it.
FILES: dict[Scope | IngressScope, str] = {
    "read": "read-token",
    "rollback": "rollback-token",
    "deploy": "token",
    "drill": "drill-token",
    "clients": "client-token",
    "testers": "tester-token",
    "batch": "batch-token",
}
#: Owner and nobody else.
_OTHERS = 0o077


@dataclass(frozen=True)
class Holder:
    """Whose token a request has shown. ``name`` stands in ledgers and logs; it is not a secret."""

    scope: Scope

    @property
    def name(self) -> str:
        return f"holder of the {self.scope} token"

    def may(self, scope: Scope) -> bool:
        return scope in GRANTS[self.scope]


class TokenFiles:
    """:param folder: the plane's state folder; tokens that are not there are made.

    :raises ConfigurationInvalid: somebody else than the owner can read or replace a token.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[int, bytes]] = {}
        for scope in FILES:
            read_or_make_token(self.path(scope))
            require_private(self.path(scope))

    def path(self, scope: Scope | IngressScope) -> Path:
        """Of the file that holds the token of ``scope``."""
        return self._folder / FILES[scope]

    def holder(self, authorization: bytes) -> Holder | None:
        """Whose token an ``authorization`` header shows; ``None`` for nobody's.

        Every token is compared, whichever fits, so that the time it takes tells nothing.
        """
        match: Scope | None = None
        for scope in SCOPES:
            for token in self._taken(scope):
                if hmac.compare_digest(authorization, b"Bearer " + token):
                    match = scope
        return Holder(match) if match else None

    def ingress(self) -> IngressTokens:
        """What the ingress takes now."""
        clients, testers, batch = (
            tuple(token.decode() for token in self._taken(scope)) for scope in ("clients", "testers", "batch")
        )
        return IngressTokens(clients=clients, testers=testers, batch=batch)

    def rotate(self, scope: Scope | IngressScope, *, grace_s: float) -> Path:
        """Write a new token of ``scope``; the one before is taken for ``grace_s`` seconds more.

        :return: the file that holds the new one.
        """
        path, retiring = self.path(scope), self._retiring(scope)
        if grace_s > 0:
            write_token(retiring, read_or_make_token(path))
            # The file's own time says until when, so that a restart does not prolong it.
            until = time.time() + grace_s
            os.utime(retiring, (until, until))
        else:
            retiring.unlink(missing_ok=True)
        write_token(path, secrets.token_urlsafe(32))
        return path

    def _taken(self, scope: Scope | IngressScope) -> list[bytes]:
        """The token of ``scope``, and the one before while its grace lasts."""
        return [token for path in (self.path(scope), self._retiring(scope)) if (token := self._token(path))]

    def _retiring(self, scope: Scope | IngressScope) -> Path:
        return self._folder / f".{FILES[scope]}.retiring"

    def _token(self, path: Path) -> bytes:
        """The secret in ``path`` as it is now; empty where there is none, or its time is over."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return b""
        if path.name.endswith(".retiring") and status.st_mtime < time.time():
            path.unlink(missing_ok=True)
            return b""
        stamp = status.st_mtime_ns ^ status.st_ino
        if path not in self._read or self._read[path][0] != stamp:
            try:
                self._read[path] = (stamp, path.read_text(encoding="utf-8").strip().encode())
            except FileNotFoundError:
                return b""
        return self._read[path][1]


def require_private(path: Path) -> None:
    """:raises ConfigurationInvalid: ``path`` belongs to somebody else, or others may read or write it."""
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
        scope = _scope_of(path.name)
        mended = f"mlpipex tokens rotate {scope}" if scope else "delete the file, and start again"
        raise ConfigurationInvalid(
            f"{path.name} of the plane",
            value=f"owner {status.st_uid}, mode {status.st_mode & 0o777:04o}",
            limit=f"owner {os.geteuid()}, and nobody else may read or write it",
            remedy=f"chown it to the user that runs the plane, chmod go= it; what others have read, replace: {mended}",
        )


def _scope_of(name: str) -> str:
    """Empty for the token of clients, which has none."""
    return next((scope for scope, file in FILES.items() if file == name), "")

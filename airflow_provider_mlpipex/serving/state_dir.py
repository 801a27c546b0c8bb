"""Where the embedded plane keeps what: one folder, readable by its owner alone, and sockets whose paths are short."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.domain.release.release import slug_of
from airflow_provider_mlpipex.serving.envoy import config as envoy_config
from airflow_provider_mlpipex.serving.envoy.paths import Paths
from airflow_provider_mlpipex.serving.prediction_log import comparison

#: A unix socket's path may not be longer than this.
_SOCKET_PATH_MAX = 100
_MAX_SOCKET_NAME = 25


class Places:
    """:param root: the plane's state folder; made if it is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sockets = self._socket_folder()

    @property
    def memory(self) -> Path:
        return self.root / "state.json"

    @property
    def ledger_heads(self) -> Path:
        return self.root / "ledger-heads.jsonl"

    @property
    def reserve(self) -> Path:
        return self.root / "reserve"

    @property
    def children(self) -> Path:
        return self.root / "children"

    @property
    def servers(self) -> Path:
        return self.root / "servers"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def runtimes(self) -> Path:
        return self.root / "runtimes"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    @property
    def envoy(self) -> Paths:
        """Of the first Envoy, and the routes and clusters that all of them share."""
        return self.envoys[0]

    @property
    def envoys(self) -> tuple[Paths, ...]:
        folder, sockets = self.root / "envoy", self._sockets
        return (
            Paths(folder=folder, admin_socket=sockets / "envoy.sock"),
            Paths(folder=folder, admin_socket=sockets / "envoy-2.sock", number=2),
        )

    def socket(self, endpoint: EndpointRef, release_id: str) -> Path:
        """Short by construction: a digest, not the name, because the path of a socket is limited."""
        return self._sockets / f"{hashlib.sha256(f'{endpoint} {release_id}'.encode()).hexdigest()[:16]}.sock"

    def server(self, endpoint: EndpointRef, release_id: str) -> Path:
        """Folder of one model server: its spec, its own log, its drill port."""
        return self.servers / envoy_config.cluster_name(endpoint, release_id)

    def prediction_log(self, endpoint: EndpointRef, release_id: str) -> Path:
        return comparison.log_folder(self.predictions, endpoint, release_id)

    def sketches(self, endpoint: EndpointRef, release_id: str) -> Path:
        """The store of what a prediction log was counted into."""
        folder = self.root / "sketches" / endpoint.environment / endpoint.name
        return folder / f"{slug_of(release_id)}.sqlite"

    def remove_sockets(self) -> None:
        """Sockets outside the state folder go with the plane."""
        if self._sockets.parent != self.root:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _socket_folder(self) -> Path:
        inside = self.root / "sock"
        if len(str(inside)) + _MAX_SOCKET_NAME <= _SOCKET_PATH_MAX:
            inside.mkdir(mode=0o700, exist_ok=True)
            return inside
        note = self.root / "socket-folder"
        if note.exists():
            noted = Path(note.read_text(encoding="utf-8"))
            # After a restart of the machine it is gone, and somebody may have made another one of that name.
            if noted.is_dir() and trouble_with(noted) == "":
                return noted
        folder = Path(tempfile.mkdtemp(prefix="mlpipex-", dir=_short_lived_folder()))
        atomic_write(note, str(folder))
        return folder


def _short_lived_folder() -> Path | None:
    """Where sockets belong, which nobody tidies up while they are in use; ``None``: the folder of temporary files."""
    named = os.environ.get("XDG_RUNTIME_DIR")
    for folder in (*([Path(named)] if named else []), Path(f"/run/user/{os.geteuid()}"), Path("/run")):
        is_own = folder.is_dir() and trouble_with(folder, or_listed=True) == ""
        if is_own and len(str(folder)) + len("/mlpipex-12345678/") + _MAX_SOCKET_NAME <= _SOCKET_PATH_MAX:
            return folder
    return None


def trouble_with(folder: Path, *, or_listed: bool = False) -> str:
    """Why ``folder`` is not its user's alone; empty where it is.

    :param or_listed: others may look into it.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return "a link, or no folder"
    if status.st_uid != os.geteuid():
        return f"owner {status.st_uid}"
    if status.st_mode & (0o022 if or_listed else 0o077):
        return f"mode {stat.S_IMODE(status.st_mode):04o}"
    return ""


def require_own_folder(folder: Path) -> None:
    """What others can only read of the plane's state folder is closed to them; what they could write is not believed.

    :raises ConfigurationInvalid: it is somebody else's, or others could have put anything into it.
    """
    trouble = trouble_with(folder, or_listed=True)
    if trouble:
        raise ConfigurationInvalid(
            f"state folder of the plane, {folder}",
            value=trouble,
            limit=f"a folder of user {os.geteuid()} that nobody else can write to",
            remedy=f"look whether everything in it is yours, then: chown -R {os.geteuid()} and chmod -R go= it; what "
            "others could read, rotate (mlpipex tokens rotate); or choose another --state-dir",
        )
    folder.chmod(0o700)


def read_or_make_token(path: Path) -> str:
    """The secret in ``path``, made once; nobody but its owner can read it."""
    try:
        held = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        held = ""
    if held:
        return held
    made = secrets.token_urlsafe(32)
    write_token(path, made)
    return made


def write_token(path: Path, token: str) -> None:
    """Whole or not at all: an empty file, left by a crash, would let in whoever shows an empty token."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic_write(path, token)

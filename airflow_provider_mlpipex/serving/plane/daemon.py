"""The plane as a process: ``run`` in the foreground, ``stop`` and ``status`` from anywhere."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from starlette.types import ASGIApp

from airflow_provider_mlpipex.atomic import atomic_write
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.serving.limits import raise_descriptor_limit
from airflow_provider_mlpipex.serving.plane.control_api import create_app
from airflow_provider_mlpipex.serving.plane.fallbacks import FallbackUse
from airflow_provider_mlpipex.serving.plane.head_witness import HeadWitness
from airflow_provider_mlpipex.serving.plane.records import Records
from airflow_provider_mlpipex.serving.plane.state import find_plane_id
from airflow_provider_mlpipex.serving.plane.supervisor import Supervisor
from airflow_provider_mlpipex.serving.plane.tokens import TokenFiles, require_private
from airflow_provider_mlpipex.serving.plane.unrecorded import TakenBack
from airflow_provider_mlpipex.serving.processes import ProcessKeeper
from airflow_provider_mlpipex.serving.state_dir import Places, require_own_folder

ADDRESS_FILE = "plane.json"
STOP_TIMEOUT_S = 30.0
VERBS_END_S = 3


def run(
    state_dir: Path,
    *,
    ingress_port: int,
    control_port: int,
    tracking_uri: str,
    feature_repository: Path | None = None,
    standbys: bool = True,
    model_memory: int | None = None,
    witness: HeadWitness | None = None,
    records: Records | None = None,
    extra_routes: Callable[[Supervisor], Sequence[Any]] = lambda _: (),
    on_fallback: Callable[[FallbackUse], None] = lambda _: None,
    on_taken_back: Callable[[Supervisor, EndpointRef, TakenBack], None] = lambda *_: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, which stop the whole plane; SIGKILL leaves Envoy and models serving.

    :param feature_repository: Feast repository of releases with a feature service.
    :param standbys: whether each current release has a second process that is ready to take over.
    :param model_memory: bytes that one model server may hold; ``None``: half of what there is, 0: no limit.
    :param witness: of the ledger's heads, outside this machine.
    :param records: says which releases and plans may be taken that are new here; ``None``: all.
    :param extra_routes: Starlette routes to mount into the control API, made from the supervisor.
    :param on_fallback: is called when a previous release begins to answer what current cannot.
    :param on_taken_back: writes down what was taken back without a ledger; raises while that cannot be.
    :raises ConfigurationInvalid: a port is busy, another supervisor runs on this state, or the state folder or a token
        in it is not this user's alone.
    """
    state_dir = state_dir.resolve()
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_own_folder(state_dir)
    raise_descriptor_limit()
    with _only_one(state_dir), _claimed(ingress_port), _ended_by_sigterm():
        require_free_port(control_port, what="control API", variable="MLPIPEX_CONTROL_PORT")
        addresses = {
            "pid": os.getpid(),
            "control_url": f"http://127.0.0.1:{control_port}",
            "ingress_url": f"http://127.0.0.1:{ingress_port}",
            "token_file": str(state_dir / "token"),
            "client_token_file": str(state_dir / "client-token"),
        }
        supervisor = Supervisor(
            state_dir,
            ingress_port=ingress_port,
            tracking_uri=tracking_uri,
            feature_repository=feature_repository,
            standbys=standbys,
            model_memory=model_memory,
            witness=witness,
            on_fallback=on_fallback,
            on_taken_back=on_taken_back,
        )
        require_private(state_dir / "client-token")
        app = create_app(
            supervisor, tokens=TokenFiles(state_dir), records=records, extra_routes=extra_routes(supervisor)
        )
        _require_ingress_port(state_dir, ingress_port)
        asked_to_end = False
        try:
            supervisor.start()
            supervisor.reserve.spend(partial(_write_addresses, state_dir, addresses))
            _serve(app, control_port)
            asked_to_end = True
        except KeyboardInterrupt:
            asked_to_end = True
            raise
        except SystemExit as end:
            asked_to_end = end.code == 0
            raise
        finally:
            (state_dir / ADDRESS_FILE).unlink(missing_ok=True)
            # Whatever else ended it, users go on being served, and the next supervisor adopts what serves them.
            (supervisor.shut_down if asked_to_end else supervisor.detach)()


def _serve(app: ASGIApp, port: int) -> None:
    """Until SIGTERM, which ends it by ``SystemExit(0)``, or Ctrl-C, after which it returns.

    :raises SystemExit: with another code, where it could not listen.
    """
    import uvicorn

    from airflow_provider_mlpipex.serving.plane.patience import Impatient

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        http=Impatient,
        ws="none",
        # A verb that waits for a model server would hold up the end for as long as it waits.
        timeout_graceful_shutdown=VERBS_END_S,
    )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the stack. By default it ends the process where it stands, and what it runs goes on; uvicorn
    takes it while it serves, but raises it again as whatever it was before."""

    def unwind(*_: object) -> None:
        # A second one must not cut short what the first one set going.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(state_dir: Path) -> None:
    """Stop supervisor, Envoy and every model server; nothing to do is fine."""
    supervisor = _supervisor_process(state_dir)
    if supervisor is not None:
        supervisor.send_signal(signal.SIGTERM)
        _, stubborn = psutil.wait_procs([supervisor], timeout=STOP_TIMEOUT_S)
        # It would start again what is stopped below.
        for process in stubborn:
            process.kill()
            process.wait(timeout=STOP_TIMEOUT_S)
    plane_id = find_plane_id(state_dir)
    if plane_id is not None:
        ProcessKeeper(state_dir / "children", plane_id=plane_id).stop_all()


def status(state_dir: Path) -> dict[str, Any]:
    """Addresses and whether the supervisor lives; ``{"running": false}`` where none was started."""
    addresses = _read_addresses(state_dir)
    return {"running": _supervisor_process(state_dir) is not None, **addresses} if addresses else {"running": False}


def require_free_port(port: int, *, what: str, variable: str) -> None:
    """:raises ConfigurationInvalid: somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise _busy(port, what=what, variable=variable) from None


def _busy(port: int, *, what: str, variable: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(
        f"port of the {what}",
        value=port,
        limit="a free port on 127.0.0.1",
        remedy=f"stop what listens there, or set {variable}",
    )


def _write_addresses(state_dir: Path, addresses: dict[str, Any]) -> None:
    atomic_write(state_dir / ADDRESS_FILE, json.dumps(addresses, indent=2))


def _read_addresses(state_dir: Path) -> dict[str, Any]:
    """Empty where no supervisor has left any, or the machine went down while one wrote them."""
    try:
        addresses = json.loads((state_dir / ADDRESS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return addresses if isinstance(addresses, dict) else {}


def _supervisor_process(state_dir: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(_read_addresses(state_dir)["pid"])
        # A pid may have been given to somebody else: ours holds the lock of this state.
        return process if not _lock_is_free(state_dir) else None
    except (KeyError, psutil.NoSuchProcess):
        return None


def _lock_is_free(state_dir: Path) -> bool:
    with (state_dir / "supervisor.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    with (state_dir / "supervisor.lock").open("a") as lock:
        deadline = time.monotonic() + 2.0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigurationInvalid(
                        "state folder of the plane",
                        value=state_dir.name,
                        limit="one supervisor a state folder",
                        remedy="stop the other (mlpipex serve stop), or choose another --state-dir",
                    ) from None
                time.sleep(0.1)
        yield


@contextmanager
def _claimed(port: int) -> Iterator[None]:
    """The ingress port is this plane's. Two Envoys share it, so Envoy itself would let those of another plane join.

    The claim is a name in the same network namespace as the port, and ends with this process however that ends: then
    the Envoys that it leaves are listening, which :func:`require_free_port` sees.

    :raises ConfigurationInvalid: the supervisor of another plane has claimed it.
    """
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0mlpipex-ingress-{port}")
        except OSError:
            raise _busy(port, what="ingress", variable="MLPIPEX_INGRESS_PORT") from None
        yield


def _require_ingress_port(state_dir: Path, port: int) -> None:
    """It is free, or held by an Envoy that the supervisor will adopt.

    One that no record names cannot be adopted, and would be ended anyhow: that happens here, or the port would be taken
    for somebody else's. Only when nothing else can keep the supervisor from starting: that Envoy still serves.

    :raises ConfigurationInvalid: somebody else listens there.
    """
    plane_id = find_plane_id(state_dir)
    if plane_id is not None:
        keeper = ProcessKeeper(state_dir / "children", plane_id=plane_id)
        if any(keeper.alive(envoy.name) for envoy in Places(state_dir).envoys):
            return
        keeper.end_strays(needed=keeper.children)
    require_free_port(port, what="ingress", variable="MLPIPEX_INGRESS_PORT")

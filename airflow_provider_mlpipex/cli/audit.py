"""``mlpipex audit …``: whether the ledger can be believed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, configured_platform, emit
from airflow_provider_mlpipex.domain.errors import LedgerTampered, MlpipexError, NotFound
from airflow_provider_mlpipex.domain.names import EndpointRef
from airflow_provider_mlpipex.services import journal

if TYPE_CHECKING:
    from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
    from airflow_provider_mlpipex.services.platform import Platform

app = typer.Typer(no_args_is_help=True, help="Verify the ledger.")
_EXPECTED = re.compile(r"(?P<endpoint>[^=]+)=(?P<seq>[1-9][0-9]*):(?P<hash>[0-9a-f]{64})")


@app.command()
def verify(
    expect: Annotated[
        list[str] | None,
        typer.Option(help="A head that was noted elsewhere, as ENDPOINT=ENTRY:HASH. May be given several times."),
    ] = None,
    heads_file: Annotated[
        Path | None,
        typer.Option("--heads", help="A copy of the plane's ledger-heads.jsonl: every head in it is compared."),
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="Ed25519 public key (PEM) that every line of --heads must be signed for.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the hash chain of every endpoint, and that it goes on from the head that the serving plane has noted."""
    from airflow_provider_mlpipex.services.rollout.history import audit

    platform = configured_platform()
    noted: dict[str, list[LedgerHead]] = defaultdict(list)
    for text in expect or ():
        endpoint, head = _expected(text)
        noted[endpoint].append(head)
    for endpoint, heads_then in _in_file(heads_file, public_key).items():
        noted[endpoint] += heads_then
    trouble = ""
    try:
        heads = platform.plane.heads()
    except MlpipexError as error:
        heads, trouble = {}, str(error)
    for endpoint, head in heads.items():
        noted[endpoint].append(head)
    at_registry = _at_registry(platform, noted)
    counts = audit(platform, noted=noted)
    emit(
        {name: _checked(n, heads.get(name), trouble) for name, n in counts.items()},
        as_json,
        lambda: (
            "\n".join(filter(None, (_sentences(counts, heads, trouble), at_registry))) if counts else journal.NO_LEDGER
        ),
    )


def _in_file(file: Path | None, public_key: Path | None) -> dict[str, list[LedgerHead]]:
    """Every head in a copy of the plane's file; where one was accepted on purpose, those from then on.

    :raises LedgerTampered: a line is not signed as it should be. :raises NotFound: there is no such file.
    """
    from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
    from airflow_provider_mlpipex.serving.plane.ledger_heads import records_in
    from airflow_provider_mlpipex.signatures import PublicKey

    if file is None:
        if public_key is not None:
            raise NotFound("option --public-key", value=public_key.name, limit="--heads FILE", remedy="give both")
        return {}
    key = PublicKey(public_key) if public_key else None
    heads: dict[str, list[LedgerHead]] = defaultdict(list)
    try:
        for number, record in enumerate(records_in(file), start=1):
            if key is not None and not key.has_signed(record):
                raise LedgerTampered(
                    f"{file.name}, head {number}, {record.get('endpoint')}",
                    value="no signature" if "signature" not in record else "a signature of something else",
                    limit=f"signed with the private half of {public_key.name if public_key else 'the key'}",
                    remedy="find who could write to the file; compare with alerts, and with what the plane has sent on",
                )
            if "accepted" in record:
                heads[str(record["endpoint"])].clear()
            heads[str(record["endpoint"])].append(LedgerHead(seq=record["seq"], hash=record["hash"]))
    except OSError as error:
        raise NotFound(
            "option --heads", value=str(file), limit=error.strerror or "readable", remedy="copy it from the plane"
        ) from None
    return heads


def _at_registry(platform: Platform, noted: dict[str, list[LedgerHead]]) -> str:
    """Add to ``noted`` what the registry has; a sentence where it could not be asked."""
    from airflow_provider_mlpipex.services.rollout.ledger_heads import anchored

    for endpoint in platform.ledger.endpoints():
        try:
            head = anchored(platform, endpoint)
        except LedgerTampered:
            continue  # said below, with the entry
        except MlpipexError as error:
            return f"NOT compared with the heads that the registry has noted: {error}"
        if head is not None:
            noted[str(endpoint)].append(head)
    return ""


def _checked(entries: int, noted: LedgerHead | None, trouble: str) -> dict[str, object]:
    return {"entries": entries, "noted": noted.to_json() if noted else None, "not_compared": trouble}


def _sentences(counts: Mapping[str, int], heads: Mapping[str, LedgerHead], trouble: str) -> str:
    lines = [
        f"{name}: {n} entries verified"
        + (f", and they go on from what the plane has noted ({heads[name]})" if name in heads else "")
        for name, n in counts.items()
    ]
    if lines and trouble:
        lines.append(f"NOT compared with the heads that the serving plane has noted: {trouble}")
    return "\n".join(lines)


@app.command("accept-head")
def accept_head(
    endpoint: Annotated[str, typer.Argument(help="production/fraud-scorer")],
    instead_of: Annotated[str, typer.Option(help="Hash that the plane has noted, or its first 12 characters.")],
    reason: Annotated[str, typer.Option(help="Why this chain is the true one; goes into the ledger.")],
    as_json: AsJson = False,
) -> None:
    """After a backup was restored on purpose: let the plane go on from the chain as it is now."""
    from airflow_provider_mlpipex.services.rollout.ledger_heads import accept

    ref = EndpointRef.parse(endpoint)
    head = accept(configured_platform(), ref, instead_of=instead_of, reason=reason)
    emit(
        {"endpoint": str(ref), **head.to_json()},
        as_json,
        lambda: f"{ref}: the plane goes on from {head}; the ledger says who accepted that, and why",
    )


def _expected(text: str) -> tuple[str, LedgerHead]:
    from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead

    parts = _EXPECTED.fullmatch(text)
    if parts is None:
        raise NotFound(
            "option --expect",
            value=text,
            limit="ENDPOINT=ENTRY:HASH, the hash in 64 characters",
            remedy="copy it from an alert, or from the plane's file ledger-heads.jsonl",
        )
    return str(EndpointRef.parse(parts["endpoint"])), LedgerHead(seq=int(parts["seq"]), hash=parts["hash"])

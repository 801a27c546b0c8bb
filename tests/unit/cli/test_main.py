"""Every command of ``mlpipex`` over a SQLite ledger: what it prints, as text and as JSON, and how it refuses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from airflow_provider_mlpipex import __version__, composition
from airflow_provider_mlpipex.cli import main as cli
from airflow_provider_mlpipex.cli import terminal
from airflow_provider_mlpipex.domain.errors import EndpointHeldBack, NotAuthorised
from airflow_provider_mlpipex.domain.rollout.ledger_head import LedgerHead
from airflow_provider_mlpipex.domain.rollout.traffic_plan import TrafficPlan
from airflow_provider_mlpipex.services.platform import Platform
from airflow_provider_mlpipex.serving.plane.head_witness import HeadWitness
from airflow_provider_mlpipex.serving.plane.ledger_heads import LedgerHeads
from airflow_provider_mlpipex.testing.plane import MemoryPlane
from tests.support.factories import make_release
from tests.support.manifests import edited, make_manifest
from tests.support.tampering import write_key
from tests.support.terminal import ENDPOINT, answer, refusal, release, run

COMMANDS = [
    ["version"],
    ["manifest", "schema"],
    ["manifest", "validate"],
    ["manifest", "diff"],
    ["adopt"],
    ["init"],
    ["plan"],
    ["rules"],
    ["release"],
    ["promote"],
    ["pause"],
    ["hold"],
    ["resume"],
    ["skip"],
    ["abort"],
    ["tokens", "list"],
    ["tokens", "rotate"],
    ["status"],
    ["diagnose"],
    ["history"],
    ["rollback"],
    ["drill"],
    ["reproduce"],
    ["audit", "accept-head"],
    ["audit", "verify"],
    ["ledger", "prune"],
    ["serve", "run"],
    ["serve", "stop"],
    ["serve", "status"],
    ["serve", "collect"],
    ["demo"],
    ["quality", "propose"],
    ["quality", "check"],
    ["quality", "expectations"],
    ["gates", "prove"],
    ["gates", "replay"],
    ["labels", "ingest"],
    ["labels", "performance"],
    ["labels", "confirm"],
    ["alerts", "list"],
    ["alerts", "set"],
    ["alerts", "remove"],
    ["alerts", "test"],
    ["drift", "check"],
    ["drift", "attribute"],
]


@pytest.fixture
def manifest_file(tmp_path: Path) -> Path:
    path = tmp_path / "fraud.yaml"
    path.write_text(edited(), encoding="utf-8")
    return path


# What every command has in common.


def listed(app: Any) -> Iterator[list[str]]:
    for command in app.registered_commands:
        yield [command.name or command.callback.__name__.replace("_", "-")]
    for group in app.registered_groups:
        for command in listed(group.typer_instance):
            yield [group.name, *command] if isinstance(group.name, str) else command


def test_these_are_all_commands() -> None:
    assert sorted(listed(cli.app)) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_takes_json(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_usage_is_exit_code_2(as_json: bool) -> None:
    result = run("rollback", *(["--json"] if as_json else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "endpoint" in (json.loads(result.stderr)["thing"] if as_json else result.stderr)


def test_an_unknown_command_is_exit_code_2() -> None:
    assert run("promote").exit_code == 2


@pytest.mark.usefixtures("platform")
def test_a_refusal_as_text_is_the_sentence_and_as_json_its_parts() -> None:
    result = run("rollback", "Production")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("endpoint | value: 'Production' | limit: environment/name | do: ")
    told = refusal("rollback", "Production")
    assert told["error"] == "InvalidName"
    assert told["value"] == "Production"
    assert told["runbook"] == "invalid-name"


def test_the_version_is_the_packages() -> None:
    assert run("version").stdout.strip() == __version__
    assert answer("version") == {"version": __version__}


# Manifests.


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_schema_describes_what_validates(arguments: list[str]) -> None:
    schema = json.loads(run("manifest", "schema", *arguments).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(make_manifest().to_json(), schema)


def test_validate(manifest_file: Path) -> None:
    digest = make_manifest().digest
    text = run("manifest", "validate", manifest_file)
    assert (text.exit_code, text.stdout) == (0, f"{manifest_file}: fraud-scorer is valid, digest {digest[:12]}\n")
    assert answer("manifest", "validate", manifest_file) == {"name": "fraud-scorer", "digest": digest, "cautions": []}


def test_validate_says_what_works_less_well_than_it_looks(manifest_file: Path) -> None:
    short = ("    alerts: {on", "    drift: {window: 6h, season: none}\n    alerts: {on")
    manifest_file.write_text(edited(short), encoding="utf-8")
    text = run("manifest", "validate", manifest_file)
    assert text.exit_code == 0 and "is valid" in text.stdout
    assert "caution: environments.production.drift.window: 6h is shorter than a day" in text.stdout
    (caution,) = answer("manifest", "validate", manifest_file)["cautions"]
    assert caution["field"] == "environments.production.drift.window" and "season: day" in caution["remedy"]


def test_validate_names_every_defect_with_its_line(manifest_file: Path) -> None:
    manifest_file.write_text(edited(("task: binary", "task: binari"), ("team: risk", "tean: risk")), encoding="utf-8")
    text = run("manifest", "validate", manifest_file)
    assert text.exit_code == 1
    assert f"{manifest_file}:4: owner.tean" in text.stderr
    assert "training.task: binari" in text.stderr
    problems = refusal("manifest", "validate", manifest_file)["problems"]
    assert all(problem.startswith(f"{manifest_file}:") for problem in problems)
    assert len(problems) == len([line for line in text.stderr.splitlines() if line.startswith("  - ")]) >= 3


def make_missing(path: Path) -> None:
    """Leave nothing there."""


def make_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00name")


@pytest.mark.parametrize("command", [["manifest", "validate"], ["plan"], ["manifest", "diff"]], ids=" ".join)
@pytest.mark.parametrize(
    ("make", "found"),
    [(make_missing, "No such file or directory"), (Path.mkdir, "Is a directory"), (make_binary, "not UTF-8")],
)
def test_a_file_that_cannot_be_read_is_named(
    command: list[str], make: Callable[[Path], None], found: str, tmp_path: Path, manifest_file: Path
) -> None:
    path = tmp_path / "other.yaml"
    make(path)
    files = [manifest_file, path] if command[-1] == "diff" else [path]
    told = refusal(*command, *files)
    assert (told["error"], told["thing"], told["value"]) == ("ManifestInvalid", f"manifest {path}", found)
    assert "path" in told["remedy"]
    assert str(path) in run(*command, *files).stderr


def test_diff_types_every_change_and_says_who_reviews(manifest_file: Path, tmp_path: Path) -> None:
    after = tmp_path / "after.yaml"
    after.write_text(edited(("max: 1%", "max: 2%"), ("version: 1.0.0", "version: 1.1.0")), encoding="utf-8")
    told = answer("manifest", "diff", manifest_file, after)
    assert {"runtime", "gate-loosened"} <= {change["kind"] for change in told["changes"]}
    assert told["reviews"]["production"]["needs_person"] is True
    text = run("manifest", "diff", manifest_file, after).stdout
    assert "gate-loosened" in text
    assert "production: review by a person" in text


def test_diff_of_the_same_is_nothing(manifest_file: Path) -> None:
    assert run("manifest", "diff", manifest_file, manifest_file).stdout == "no difference\n"
    assert answer("manifest", "diff", manifest_file, manifest_file)["changes"] == []


def test_plan_shows_every_environment_or_the_one_asked_for(manifest_file: Path) -> None:
    assert [each["environment"] for each in answer("plan", manifest_file)] == ["staging", "production"]
    (production,) = answer("plan", manifest_file, "--environment", "production")
    assert [step["stage"] for step in production["steps"]].count("canary") == 3
    text = run("plan", manifest_file, "--environment", "production").stdout
    assert "Time to promote" in text
    assert "Time to roll back" in text
    assert "First release      skips shadow, canary and watch: there is nothing to compare with" in text
    assert refusal("plan", manifest_file, "--environment", "moon")["value"] == "moon"


# The ledger.


def test_status(two_releases: Platform) -> None:
    old, new = make_release("1.0.0"), make_release("1.1.0")
    (told,) = answer("status")
    assert (told["endpoint"], told["current"], told["previous"]) == (str(ENDPOINT), new.id, old.id)
    assert told["rollout"]["phase"] == "watching"
    assert told["plane"]["weights"] == {new.id: 10_000}
    assert answer("status", str(ENDPOINT)) == [told]
    text = run("status").stdout
    assert text.splitlines()[0] == str(ENDPOINT)
    assert f"serves     {new.id} since 20" in text and f"before it  {old.id}" in text
    assert f"100% to {new.id}" in text and "serves, and is watched" in text
    assert not {"{", "10000", "None"} & set(text.split()), "people read this"


def test_status_where_the_plane_is_away_says_so(two_releases: Platform) -> None:
    assert isinstance(two_releases.plane, MemoryPlane)
    two_releases.plane.away = True
    (told,) = answer("status")
    assert told["plane"] is None
    assert "serving plane in memory" in told["plane_error"]
    assert "serving plane in memory" in run("status").stdout


def test_status_tells_of_a_rollback_that_is_not_in_force(two_releases: Platform) -> None:
    assert isinstance(two_releases.plane, MemoryPlane)
    two_releases.plane.away = True
    failed = run("rollback", str(ENDPOINT))
    assert (failed.exit_code, "decided and not carried out" in failed.stderr) == (1, True)
    said = f"ROLLBACK to {make_release('1.0.0').id} DECIDED AND NOT IN FORCE"
    assert said in run("status").stdout
    two_releases.plane.away = False
    assert said in run("status").stdout
    assert run("rollback", str(ENDPOINT)).exit_code == 0
    assert "ROLLBACK" not in run("status").stdout


def test_status_tells_of_a_plane_that_does_not_serve_what_the_ledger_says(two_releases: Platform) -> None:
    assert "ANOTHER PLAN" not in run("status").stdout
    two_releases.plane.apply(TrafficPlan(endpoint=ENDPOINT, current=make_release("1.0.0").id))
    assert "THE PLANE SERVES ANOTHER PLAN" in run("status").stdout


def test_status_without_a_token_for_the_plane_tells_what_the_ledger_knows(
    two_releases: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise NotAuthorised("control API", limit="the plane's token")

    monkeypatch.setattr(two_releases.plane, "observe", refuse)
    (told,) = answer("status")
    assert told["current"] == make_release("1.1.0").id
    assert "the plane's token" in told["plane_error"]


@pytest.mark.usefixtures("platform")
def test_an_empty_ledger_is_not_mistaken_for_a_good_one() -> None:
    assert answer("status") == []
    assert answer("audit", "verify") == {}
    for command in (["status"], ["audit", "verify"]):
        assert "MLPIPEX_LEDGER_URL" in run(*command).stdout


def test_history_tells_tenures_events_and_a_moment(two_releases: Platform) -> None:
    old, new = make_release("1.0.0"), make_release("1.1.0")
    first, second = answer("history", str(ENDPOINT))
    assert (first["release"], first["ended_by"], first["until"]) == (old.id, "promoted", second["since"])
    assert (second["release"], second["until"]) == (new.id, None)
    text = run("history", str(ENDPOINT)).stdout.splitlines()
    assert [old.id in text[0], new.id in text[1], "now" in text[1]] == [True, True, True]

    entries = answer("history", str(ENDPOINT), "--events")
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert len(run("history", str(ENDPOINT), "--events").stdout.splitlines()) == len(entries)

    state = answer("history", str(ENDPOINT), "--at", first["since"])
    assert state["current"]["model"]["version"] == "1.0.0"
    assert old.id in run("history", str(ENDPOINT), "--at", first["since"]).stdout
    before = two_releases.ledger.read(ENDPOINT)[0].recorded_at - timedelta(seconds=1)
    assert answer("history", str(ENDPOINT), "--at", before.replace(tzinfo=None).isoformat())["current"] is None


@pytest.mark.parametrize(
    "command",
    [
        ["status"], ["history"], ["rollback"], ["pause", "--note", "x"], ["resume"], ["skip", "--note", "x"], ["abort"],
        ["drift", "check"], ["drift", "attribute"], ["labels", "performance"], ["labels", "confirm", "--note", "x"],
        ["promote", "--release", "x"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_endpoint_that_never_was_is_not_found(two_releases: Platform, command: list[str]) -> None:
    refused = refusal(*command, "production/fraud-scorr")
    assert (refused["error"], refused["thing"]) == ("NotFound", "endpoint production/fraud-scorr")
    assert f"did you mean {ENDPOINT}?" in refused["remedy"]
    assert str(ENDPOINT) in refusal(*command, "staging/churn")["remedy"]


def test_what_a_person_took_back_is_shown_until_somebody_resumes(two_releases: Platform) -> None:
    assert "HELD" not in run("status", str(ENDPOINT)).stdout
    run("rollback", str(ENDPOINT), "--cause", "answers nonsense")
    shown = run("status", str(ENDPOINT)).stdout
    assert "ATTENTION  HELD: " in shown and "holds back releases up to 1.1.0 and those of its commit since" in shown
    assert "answers nonsense" in shown and f"mlpipex resume {ENDPOINT}" in shown
    with pytest.raises(EndpointHeldBack):
        release(two_releases, make_release("1.0.5"))
    assert run("resume", str(ENDPOINT), "--note", "mended").stdout == f"{ENDPOINT}: nothing is held back any more\n"
    assert answer("status", str(ENDPOINT))[0]["held_back"] is None
    release(two_releases, make_release("1.0.5"))


def test_an_endpoint_can_be_held_and_resumed(two_releases: Platform) -> None:
    held = run("hold", str(ENDPOINT), "--note", "a freeze over the holidays").stdout
    assert "holds back all releases since" in held and "a freeze over the holidays" in held
    assert answer("resume", str(ENDPOINT))["held_back"] is None


@pytest.mark.parametrize("command", [["status"], ["audit", "verify"], ["history", "production/x"], ["alerts", "list"]])
def test_a_slip_in_the_ledgers_url_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("MLPIPEX_LEDGER_URL", f"sqlite:///{tmp_path}/slip/ledger.db")
    result = run(*command)
    assert command == ["alerts", "list"] or (result.exit_code, "MLPIPEX_LEDGER_URL" in result.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_version_is_an_option_too() -> None:
    assert run("--version").stdout == f"{__version__}\n"


def test_history_of_no_moment(two_releases: Platform) -> None:
    told = refusal("history", str(ENDPOINT), "--at", "yesterday")
    assert (told["thing"], told["value"]) == ("--at", "yesterday")


def test_history_and_audit_need_no_token_of_the_plane(two_releases: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "build_platform", composition.build_platform)
    assert len(answer("history", str(ENDPOINT))) == 2
    (checked,) = answer("audit", "verify").values()
    assert checked["noted"] is None and "token of the serving plane" in checked["not_compared"]
    assert "NOT compared with the heads" in run("audit", "verify").stdout
    assert refusal("rollback", str(ENDPOINT))["thing"] == "token of the serving plane"


def test_rollback_returns_to_the_release_before_and_twice_is_once(two_releases: Platform) -> None:
    old = make_release("1.0.0")
    told = answer("rollback", str(ENDPOINT), "--cause", "wrong fares")
    assert (told["endpoint"], told["current"]) == (str(ENDPOINT), old.id)
    again = run("rollback", str(ENDPOINT))
    told = f"nothing was left to undo; {ENDPOINT} serves {old.id} as before; "
    assert (again.exit_code, again.stdout.startswith(told)) == (0, True)
    decided = [e for e in two_releases.ledger.read(ENDPOINT) if e.event.type == "rollback-decided"]
    assert [entry.event.to_json()["cause"] for entry in decided] == ["wrong fares"]
    assert decided[0].origin.kind == "cli"
    assert decided[0].origin.user
    plan = two_releases.plane.observe(ENDPOINT).plan
    assert plan is not None
    assert plan.weights == {old.id: 10_000}


def test_rollback_of_a_named_release_leaves_every_other_alone(two_releases: Platform) -> None:
    old, new = make_release("1.0.0"), make_release("1.1.0")
    assert answer("rollback", str(ENDPOINT), "--release", old.id)["current"] == new.id
    told = run("rollback", str(ENDPOINT), "--release", new.id)
    assert f"rolled back; {ENDPOINT} serves {old.id} instead of {new.id}; " in told.stdout
    assert answer("rollback", str(ENDPOINT), "--release", new.id)["ended"] == {}


def test_rollback_with_nothing_to_return_to_is_refused(platform: Platform) -> None:
    assert refusal("rollback", str(ENDPOINT))["error"] == "NotFound"
    release(platform, make_release("1.0.0"))
    assert refusal("rollback", str(ENDPOINT))["error"] == "IllegalTransition"


def test_audit_counts_what_it_verified_and_finds_what_was_changed(two_releases: Platform, tmp_path: Path) -> None:
    count = len(two_releases.ledger.read(ENDPOINT))
    last = two_releases.ledger.read(ENDPOINT)[-1]
    noted = {"seq": count, "hash": last.hash}
    assert answer("audit", "verify") == {str(ENDPOINT): {"entries": count, "noted": noted, "not_compared": ""}}
    assert run("audit", "verify").stdout.startswith(f"{ENDPOINT}: {count} entries verified, and they go on from what")
    assert answer("audit", "verify", "--expect", f"{ENDPOINT}={count}:{last.hash}")
    assert refusal("audit", "verify", "--expect", f"{ENDPOINT}={count}:{'0' * 64}")["error"] == "LedgerRewritten"
    assert refusal("audit", "verify", "--expect", "anything")["thing"] == "option --expect"
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger, ledger:
        for (trigger,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            ledger.execute(f"DROP TRIGGER {trigger}")
        ledger.execute("UPDATE mlpipex_ledger SET event = replace(event, '1.0.0', '9.0.0') WHERE seq = 1")
    told = refusal("audit", "verify")
    assert told["error"] == "LedgerTampered"
    assert str(ENDPOINT) in told["thing"]


def test_a_copy_of_the_planes_heads_is_verified_with_its_signatures(two_releases: Platform, tmp_path: Path) -> None:
    file, key = tmp_path / "ledger-heads.jsonl", write_key(tmp_path / "key.pem")
    heads = LedgerHeads(file, say=lambda *_: None, witness=HeadWitness(key_file=key))
    for entry in two_releases.ledger.read(ENDPOINT)[2:6]:
        heads.note(str(ENDPOINT), LedgerHead(seq=entry.seq, hash=entry.hash))
    verify = ("audit", "verify", "--heads", str(file))
    signed = (*verify, "--public-key", str(key.with_suffix(".pub")))
    assert answer(*verify) == answer(*signed) == answer("audit", "verify")
    other = write_key(tmp_path / "other.pem").with_suffix(".pub")
    assert refusal(*verify, "--public-key", str(other))["thing"].startswith("ledger-heads.jsonl, head 1")
    # A head that the chain does not have: whoever wrote the line, or rewrote the chain.
    heads.note(str(ENDPOINT), LedgerHead(seq=4, hash="e" * 64))
    assert refusal(*signed)["error"] == "LedgerRewritten"
    # Heads of before a backup was accepted on purpose are void.
    last = two_releases.ledger.read(ENDPOINT)[-1]
    heads.note(str(ENDPOINT), LedgerHead(seq=last.seq, hash=last.hash), accepted="restored", instead_of="e" * 64)
    assert answer(*signed)
    with file.open("a") as lines:
        lines.write(file.read_text().splitlines()[0].replace(str(ENDPOINT), "production/other") + "\n")
    told = refusal(*signed)
    assert (told["error"], told["value"]) == ("LedgerTampered", "a signature of something else")
    assert refusal("audit", "verify", "--heads", str(tmp_path / "none"))["thing"] == "option --heads"
    assert refusal("audit", "verify", "--public-key", str(other))["thing"] == "option --public-key"


def test_a_restored_ledger_is_accepted_by_who_has_looked_at_it(two_releases: Platform, tmp_path: Path) -> None:
    last = two_releases.ledger.read(ENDPOINT)[-1]
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger, ledger:
        for (trigger,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            ledger.execute(f"DROP TRIGGER {trigger}")
        ledger.execute("DELETE FROM mlpipex_ledger WHERE seq = ?", (last.seq,))
        ledger.execute("DELETE FROM mlpipex_state")
    assert refusal("audit", "verify")["error"] == "LedgerRewritten"
    accept = ("audit", "accept-head", str(ENDPOINT), "--reason", "restored the backup of Monday", "--instead-of")
    assert refusal(*accept, "0" * 12)["error"] == "NotFound"
    told = answer(*accept, last.hash[:12])
    assert (told["endpoint"], told["seq"]) == (str(ENDPOINT), last.seq)
    assert answer("audit", "verify")[str(ENDPOINT)]["noted"]["hash"] == told["hash"]
    (entry,) = two_releases.ledger.read(ENDPOINT, types=["head-accepted"])
    assert (entry.origin.kind, entry.event.to_json()["noted_hash"]) == ("cli", last.hash)


def test_a_ledger_that_cannot_be_there_names_the_path(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("MLPIPEX_LEDGER_URL", f"sqlite:///{tmp_path}/file/ledger.db")
    told = refusal("status")
    assert told["error"] == "NotFound"
    assert str(tmp_path / "file") in told["thing"]
    monkeypatch.setenv("MLPIPEX_LEDGER_URL", f"sqlite:///{tmp_path}/file/ledger.db")
    told = refusal("alerts", "set", "on-call", "json://127.0.0.1/")
    assert (told["error"], str(tmp_path / "file") in told["thing"]) == ("ConfigurationInvalid", True)
    assert "MLPIPEX_LEDGER_URL" in told["remedy"]


def test_settings_that_cannot_work_are_named(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPIPEX_LEDGER_URL", "mysql://ledger")
    assert refusal("status")["thing"] == "ledger url"
    monkeypatch.setenv("MLPIPEX_ALERT_CHANNELS", "on-call")
    assert "alert_channels" in refusal("status")["value"]


# The plane and the demo.


def test_serve_status_and_stop_where_nothing_runs(tmp_path: Path) -> None:
    state = ["--state-dir", tmp_path / "plane"]
    result = run("serve", "status", *state, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"running": False})
    assert run("serve", "status", *state).stdout == "running: False\n"
    assert answer("serve", "stop", *state) == {"stopped": False}
    assert run("serve", "stop", *state).stdout == "it was not running\n"


def test_serve_run_says_where_it_will_be_and_hands_over_what_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "airflow_provider_mlpipex.entrypoints.plane_daemon.run", lambda **settings: served.append(settings)
    )
    told = answer(
        "serve", "run", "--state-dir", tmp_path, "--ingress-port", "7001", "--control-port", "7002",
        "--tracking-uri", "http://127.0.0.1:7003",
    )  # fmt: skip
    assert told == {
        "ingress_url": "http://127.0.0.1:7001",
        "control_url": "http://127.0.0.1:7002",
        "state_dir": str(tmp_path),
    }
    assert served == [
        {
            "state_dir": tmp_path,
            "ingress_port": 7001,
            "control_port": 7002,
            "tracking_uri": "http://127.0.0.1:7003",
            "take_unrecorded": False,
        }
    ]


def test_demo_with_json_keeps_the_story_off_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def play(*, once: bool, ports: str) -> int:
        print(f"once {once}, ports {ports}")
        (tmp_path / "report.json").write_text('{"ok": false}', encoding="utf-8")
        return 1

    monkeypatch.setattr("airflow_provider_mlpipex.demo.play.play", play)
    monkeypatch.setattr("airflow_provider_mlpipex.demo.play.FOLDER", tmp_path)
    result = run("demo", "--once", "--ports", "auto", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"ok": False})
    assert result.stderr == "once True, ports auto\n"
    plain = run("demo")
    assert (plain.exit_code, plain.stdout) == (1, "once False, ports default\n")


def test_diagnose_says_what_is_wrong_and_where_to_read_on(platform: Platform) -> None:
    release(platform, make_release("1.0.0"))
    platform.plane.telemetry_trouble = "the log was cut"  # type: ignore[attr-defined]
    assert [finding["runbook"] for finding in answer("diagnose", str(ENDPOINT))] == ["gate-undecided"]
    said = run("diagnose", str(ENDPOINT)).stdout
    assert said.startswith("1. nobody can tell how it serves\n   the log was cut\n") and "gate-undecided.md" in said

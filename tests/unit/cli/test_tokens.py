"""``mlpipex tokens``: which there are, and a new one for an old one. No token is ever printed."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_mlpipex.serving.plane.tokens import FILES, TokenFiles
from tests.support.terminal import answer, refusal, run


def test_each_scope_is_listed_with_its_file_and_without_its_token(tmp_path: Path) -> None:
    files = TokenFiles(tmp_path)
    listed = answer("tokens", "list", "--state-dir", tmp_path)
    assert [row["scope"] for row in listed] == list(FILES)
    printed = run("tokens", "list", "--state-dir", tmp_path).output
    for scope in FILES:
        assert str(files.path(scope)) in printed
        assert files.path(scope).read_text() not in printed


def test_a_new_token_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    files = TokenFiles(tmp_path)
    old = b"Bearer " + files.path("deploy").read_bytes()
    result = run("tokens", "rotate", "deploy", "--state-dir", tmp_path)
    assert "the one before is taken for 10m more" in result.output
    assert files.path("deploy").read_text() not in result.output
    assert files.holder(old) is not None
    assert (
        "the one before is void" in run("tokens", "rotate", "deploy", "--grace", "0s", "--state-dir", tmp_path).output
    )
    assert files.holder(old) is None


def test_a_scope_that_is_none_and_a_folder_that_is_none_are_refused(tmp_path: Path) -> None:
    TokenFiles(tmp_path)
    assert refusal("tokens", "rotate", "root", "--state-dir", tmp_path)["limit"].endswith(
        "read, rollback, deploy, drill, clients, testers, batch"
    )
    nowhere = tmp_path / "nowhere"
    assert refusal("tokens", "list", "--state-dir", nowhere)["error"] == "NotFound"
    assert not nowhere.exists()

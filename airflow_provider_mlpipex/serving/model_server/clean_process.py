"""A model in a process of its own that holds nothing of the caller's: as a model server will load and ask it.

What a worker has imported, on its path or in its memory, hides what the model lacks. And a worker cannot load two
models that ship two versions of one module. So whatever must answer as served is asked here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_mlpipex.domain.errors import ReleaseNotReady
from airflow_provider_mlpipex.serving.model_server.interpreter import server_environment

TIMEOUT_S = 1800.0
_JSON = "application/json"


@dataclass(frozen=True)
class CleanAnswers:
    """:param bodies: status and body of each answer, as a client would get them.
    :param classes: labels of the model's classes, in the order of its probabilities; ``None`` where it does not say.
    """

    bodies: tuple[tuple[int, dict[str, Any]], ...]
    classes: list[Any] | None


def ask_in_clean_process(
    folder: Path, requests: Iterable[dict[str, Any]], *, python: Path | None = None, timeout_s: float = TIMEOUT_S
) -> CleanAnswers:
    """Load the model directory ``folder`` and answer each of ``requests``, by the code that serves it.

    :param python: interpreter of the runtime; this one's if not given.
    :raises ReleaseNotReady: the model does not load there, or the process died.
    """
    with tempfile.TemporaryDirectory(prefix="mlpipex-ask-") as scratch:
        asked, answered = Path(scratch) / "asked.jsonl", Path(scratch) / "answered.jsonl"
        with asked.open("w", encoding="utf-8") as stream:
            for request in requests:
                stream.write(json.dumps(request, default=str) + "\n")
        interpreter = python or Path(sys.executable)
        command = [str(interpreter), "-P", "-m", __name__, str(folder), str(asked), str(answered)]
        environment = server_environment(interpreter)
        try:
            done = subprocess.run(
                command, env=environment, cwd=scratch, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise _not_ready(folder, f"no answers within {timeout_s:g} s") from None
        lines = answered.read_text(encoding="utf-8").splitlines() if answered.is_file() else []
        if done.returncode != 0 or not lines:
            why = json.loads(lines[0])["error"] if lines else missing_module(done.stderr, code=done.returncode)
            raise _not_ready(folder, why)
    first, *bodies = map(json.loads, lines)
    return CleanAnswers(tuple((status, body) for status, body in bodies), first["classes"])


def answer_here(folder: Path, requests: Iterable[dict[str, Any]]) -> CleanAnswers:
    """The same answers from this process: quicker, and blind to what the model lacks elsewhere."""
    from airflow_provider_mlpipex.serving.model_server.loading import scorer_of

    scorer, model = scorer_of(folder)
    answers = (scorer.score(json.dumps(request, default=str).encode(), _JSON) for request in requests)
    return CleanAnswers(tuple((answer.status, json.loads(answer.body)) for answer in answers), classes_of(model))


def classes_of(model: Any) -> list[Any] | None:
    """Labels of a loaded pyfunc's classes; ``None`` where the model inside does not say, or where a row may have
    several of them, as in scikit-learn's multi-label models: then no label is the one of its row.
    """
    inside = getattr(model, "_model_impl", None)
    for name in ("sklearn_model", "python_model", "lgb_model", "xgb_model", "cb_model"):
        holder = getattr(inside, name, None)
        classes = getattr(holder, "classes_", None)
        if classes is not None:
            several = getattr(holder, "multilabel_", False) or any(map(_is_a_list, classes))
            return None if several else [value.item() if hasattr(value, "item") else value for value in classes]
    return None


def _is_a_list(value: Any) -> bool:
    """Whether ``value`` holds the classes of one output of several, and is none itself."""
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


def missing_module(said: str, *, code: int) -> str:
    """Why an interpreter ended before it came to the model: the module that it lacks. Nothing else of what it ``said``
    is told, which may be a model's own words."""
    last = (said.strip().splitlines() or [""])[-1]
    return last[:200] if last.startswith(("ModuleNotFoundError: ", "ImportError: ")) else f"exit code {code}"


def _not_ready(folder: Path, why: str) -> ReleaseNotReady:
    return ReleaseNotReady(
        f"model {folder.name} in a clean process",
        value=why[:500],
        limit="a model that loads with the code it ships and the packages of its runtime",
        remedy="put the modules that it needs beside the training callable, or install them in the runtime",
    )


def main(argv: Sequence[str]) -> int:
    """The child: one answer a line, after a line that says how the model was loaded."""
    folder, asked, answered = map(Path, argv)
    # Whatever a library or a model prints must not end in the caller's log.
    from airflow_provider_mlpipex.serving.model_server.loading import scorer_of

    with answered.open("w", encoding="utf-8") as stream:
        try:
            scorer, model = scorer_of(folder)
        except Exception as error:  # noqa: BLE001 - a pickle may raise anything
            stream.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
            return 1
        stream.write(json.dumps({"classes": classes_of(model)}, default=str) + "\n")
        with asked.open("rb") as requests:
            for line in requests:
                answer = scorer.score(line, _JSON)
                stream.write(json.dumps([answer.status, json.loads(answer.body)]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""From text to :class:`Manifest`, or to every defect at once with file, line, field, value, limit and remedy."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from airflow_provider_mlpipex.domain.errors import ManifestInvalid
from airflow_provider_mlpipex.domain.fields.refusal import Refusal, did_you_mean
from airflow_provider_mlpipex.domain.fields.yaml_text import FieldPath, Problem, read_yaml
from airflow_provider_mlpipex.domain.gates.gate import UnknownMetric
from airflow_provider_mlpipex.domain.manifest.manifest import Manifest
from airflow_provider_mlpipex.domain.validation.rules import broken_rules

_SHOWN = 100


def load_manifest(text: str, *, file: str, prove: bool = True) -> Manifest:
    """Read a manifest from YAML ``text``; ``file`` is only for messages.

    :param prove: as in ``rules.broken_rules``.
    :raises ManifestInvalid: it cannot be read, or could never work; ``problems`` lists every defect with its line.
    """
    document = read_yaml(text)
    problems = list(document.problems)
    manifest = None
    if document.data is not None:
        manifest, defects = _validate(document.data)
        problems += defects
    if manifest is not None:
        problems += broken_rules(manifest, prove=prove)
    if manifest is None or problems:
        located = [problem._replace(line=problem.line or document.line_of(problem.path)) for problem in problems]
        ordered = sorted(located, key=lambda problem: problem.line)
        sentences = tuple(dict.fromkeys(_tell(problem, file) for problem in ordered))
        raise ManifestInvalid(
            f"manifest {file}",
            value=f"{len(sentences)} {'problem' if len(sentences) == 1 else 'problems'}",
            limit="all fields known, well-formed and able to work together",
            remedy="correct the lines below; mlpipex manifest schema prints what may be written",
            problems=sentences,
        )
    return manifest


def field_name(path: FieldPath) -> str:
    """``environments.production.canary.steps[2]``."""
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return name.removeprefix(".") or "(the whole document)"


def _validate(data: Any) -> tuple[Manifest | None, list[Problem]]:
    """The manifest and its defects. With unknown fields only, there is a manifest without them too, so that the
    rules can speak in the same breath."""
    try:
        return Manifest.model_validate(data), []
    except ValidationError as error:
        defects = [defect for defect in error.errors(include_url=False) if not _only_follows(defect)]
    task = _task(data)
    problems = [_problem_of(defect, task) for defect in defects]
    unknown = [defect["loc"] for defect in defects if defect["type"] == "extra_forbidden"]
    if len(unknown) < len(defects):
        return None, problems
    manifest, _ = _validate(_without(data, unknown, ()))
    return manifest, problems


def _only_follows(defect: Any) -> bool:
    """Whether a list counts as too short only because its items are wrong, each of which is a defect of its own."""
    return defect["type"] == "too_short" and bool(len(defect["input"]) >= defect["ctx"]["min_length"])


def _without(data: Any, unknown: list[FieldPath], path: FieldPath) -> Any:
    if isinstance(data, Mapping):
        return {
            name: _without(value, unknown, (*path, name))
            for name, value in data.items()
            if (*path, name) not in unknown
        }
    if isinstance(data, list):
        return [_without(item, unknown, (*path, index)) for index, item in enumerate(data)]
    return data


def _task(data: Any) -> str | None:
    """The training task, as far as it can be read."""
    training = data.get("training") if isinstance(data, Mapping) else None
    task = training.get("task") if isinstance(training, Mapping) else None
    return task if isinstance(task, str) else None


def _problem_of(defect: Any, task: str | None) -> Problem:
    kind, given, context = defect["type"], defect["input"], defect.get("ctx", {})
    path: FieldPath = tuple(part for part in defect["loc"] if part != "[key]")
    refusal = context.get("error")
    if isinstance(refusal, UnknownMetric):
        refusal = UnknownMetric(refusal.key, task=task)
    if isinstance(refusal, Refusal):
        return Problem(path, given if refusal.value is None else refusal.value, refusal.limit, refusal.remedy)
    match kind:
        case "missing":
            return Problem(path, "missing", "a required field", "add it")
        case "extra_forbidden":
            known = _fields_at(path[:-1])
            remedy = did_you_mean(str(path[-1]), known) or "remove it"
            return Problem(path, given, f"a known field: {', '.join(known)}", remedy)
        case "literal_error":
            expected = str(context["expected"]).replace(" or ", ", ")
            choices = [choice.strip("' ") for choice in expected.split(",")]
            remedy = did_you_mean(str(given), choices) or f"write {choices[0]}"
            return Problem(path, given, f"one of {', '.join(choices)}", remedy)
        case "string_type" if path[-1:] == ("version",) and type(given) in (int, float):
            whole = ".".join([*str(given).split("."), "0", "0"][:3])
            return Problem(path, given, "major.minor.patch", f"write {whole}")
        case "string_type":
            quoted = isinstance(given, (int, float)) and not isinstance(given, bool)
            return Problem(path, given, "text", f"put it in quotes: '{given}'" if quoted else "write text")
        case "model_type" | "model_attributes_type" | "dict_type":
            fields = ", ".join(_fields_at(path))
            limit = f"a mapping of {fields}" if fields else "a mapping"
            return Problem(path, given, limit, "indent its fields below it")
        case "tuple_type" | "list_type":
            return Problem(path, given, "a list", "write - before each item")
        case "too_short":
            return Problem(path, given, f"at least {context['min_length']} of them", "add one")
        case "greater_than_equal" | "less_than" | "less_than_equal" | "greater_than":
            sign = {"greater_than_equal": "≥", "less_than": "<", "less_than_equal": "≤", "greater_than": ">"}[kind]
            return Problem(path, given, f"{sign} {next(iter(context.values()))}", "write a number within the limit")
    limit = str(defect["msg"]).removeprefix("Input should be ")
    return Problem(path, given, limit, "correct the value")


def _fields_at(path: FieldPath) -> list[str]:
    """The fields that may be written at ``path``."""
    annotation: Any = Manifest
    for part in path:
        annotation = _inside(annotation, part)
    model = _plain(annotation)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _inside(annotation: Any, part: str | int) -> Any:
    """The annotation of one part of a path."""
    annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
        return fields.get(str(part))
    arguments = get_args(annotation)
    return arguments[1] if get_origin(annotation) is dict else arguments[0] if arguments else None


def _plain(annotation: Any) -> Any:
    """Without ``Annotated`` and ``None``."""
    while get_origin(annotation) in (Annotated, Union, types.UnionType):
        annotation = next(argument for argument in get_args(annotation) if argument is not types.NoneType)
    return annotation


def _tell(problem: Problem, file: str) -> str:
    shown = "nothing" if problem.value is None else str(problem.value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… ({len(shown)} characters)"
    where = f"{file}:{problem.line}: {field_name(problem.path)}"
    return f"{where}: {shown} | limit: {problem.limit} | do: {problem.remedy}"

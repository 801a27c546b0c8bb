"""YAML text as plain data, with the line that each field stands on.

Only what a manifest needs: one document, mappings with text keys, lists, and the scalars of YAML 1.2 (so ``on`` is a
word and ``2013-01-01`` is text). Everything that could surprise is refused: repeated keys, tags, aliases that blow up.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import yaml

FieldPath = tuple[str | int, ...]
MAX_BYTES = 2**20
MAX_DEPTH = 32
#: Values after aliases are followed; a manifest of hundreds of gates stays far below.
MAX_VALUES = 20_000


MAX_DIGITS = 18
_INT = r"[-+]?[0-9]+"
_FLOAT = r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"


class Problem(NamedTuple):
    """One defect of a manifest. ``line`` is 0 until the loader has found it."""

    path: FieldPath
    value: object
    limit: str
    remedy: str
    line: int = 0


class Document(NamedTuple):
    """``lines`` knows every path; ``problems`` were met on the way and are not in ``data``."""

    data: Any
    lines: dict[FieldPath, int]
    problems: tuple[Problem, ...]

    def line_of(self, path: FieldPath) -> int:
        """The line of ``path``, or of the nearest field around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    """Composes nodes only, and not too deep: the composer is recursive."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("tag:yaml.org,2002:int", _INT, [*"-+0123456789"]),
    ("tag:yaml.org,2002:float", _FLOAT, [*"-+.0123456789"]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


class _FastLoader(getattr(yaml, "CSafeLoader", _Loader)):  # type: ignore[misc]
    """The same words in C, for text that nothing is wrong with; not for deep text, on which C would end the process."""


_FastLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _composed(text: str) -> yaml.Node | None:
    """:raises yaml.YAMLError: what is wrong with ``text``, in the words of the parser that is written in Python."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_FastLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth >= MAX_DEPTH:
                break
        else:
            node: yaml.Node | None = _FastLoader(text).get_single_node()
            return node
    except yaml.YAMLError:
        pass  # Both parsers refuse it, and one of them says where and why.
    return _Loader(text).get_single_node()


def read_yaml(text: str) -> Document:
    """Read one document. Whatever is wrong comes back as problems; ``data`` is ``None`` if nothing could be read."""
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        return _refused(1, f"{size} bytes", f"at most {MAX_BYTES} bytes", "a manifest is a page or two of text")
    try:
        node = _composed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        remedy = "indent with spaces, never with tabs" if "\\t" in what else "correct the YAML at this place"
        return _refused(mark.line + 1 if mark else 1, what, "one well-formed YAML document", remedy)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _refused(line, f"character {error.character!r}", "printable text", "remove the character")
    if node is None:
        return _refused(1, "nothing", "a mapping that starts with apiVersion: mlpipex/v1", "write a manifest")
    reading = _Reading()
    try:
        data = reading.value(node, ())
    except _Unbounded as error:
        limit = f"{MAX_VALUES} values, {MAX_DEPTH} deep, aliases followed"
        endless = Problem(error.path, "more than can be read", limit, "write it out without aliases")
        return Document(None, reading.lines, (endless,))
    return Document(data, reading.lines, tuple(reading.problems))


def _refused(line: int, value: object, limit: str, remedy: str) -> Document:
    return Document(None, {}, (Problem((), value, limit, remedy, line),))


class _Unbounded(Exception):
    """Aliases that repeat one another without end."""

    def __init__(self, path: FieldPath) -> None:
        self.path = path


class _Reading:
    """One walk over the nodes."""

    def __init__(self) -> None:
        self.lines: dict[FieldPath, int] = {}
        self.problems: list[Problem] = []
        self._values = 0

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        self._values += 1
        if self._values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _Unbounded(path[:1])
        if isinstance(node, yaml.MappingNode) and node.tag.endswith(":map"):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return self._refuse(node, path, node.tag, "plain YAML without tags", "remove the tag")

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value
            if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
                self._refuse(key, path, name if isinstance(name, str) else "a collection", "text as a key", "quote it")
            elif name in mapping:
                before = self.lines[*path, name]
                self._refuse(key, (*path, name), "given twice", f"once, as on line {before}", "remove one of the two")
            else:
                self.lines[*path, name] = key.start_mark.line + 1
                mapping[name] = self.value(value, (*path, name))
        return mapping

    def _scalar(self, node: yaml.ScalarNode, path: FieldPath) -> Any:
        kind, text = node.tag.rpartition(":")[2], node.value
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" if re.fullmatch(_INT, text):
                if len(text) <= MAX_DIGITS:
                    return int(text)
                return self._refuse(node, path, f"{len(text)} digits", f"at most {MAX_DIGITS} digits", "round it")
            case "float" if re.fullmatch(_FLOAT, text):
                number = float(text) if text[-1] in ".0123456789" else math.nan
                if math.isfinite(number):
                    return number
                return self._refuse(node, path, text[:MAX_DIGITS], "a finite number", "write a smaller number")
        return self._refuse(node, path, f"{node.tag} {text[:40]}", "plain YAML without tags", "remove the tag")

    def _refuse(self, node: yaml.Node, path: FieldPath, value: object, limit: str, remedy: str) -> None:
        self.problems.append(Problem(path, value, limit, remedy, node.start_mark.line + 1))

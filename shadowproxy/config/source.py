"""Reads a YAML text into plain values with their lines, and replaces `${NAME}` from the environment.

PyYAML's own loader loses the lines, keeps the last of two equal keys, and reads `no`, `off` and `12:30` by YAML 1.1.
So this module walks the node tree, with the types of YAML 1.2: null, true, false, numbers; everything else is text.
`${NAME}` is replaced in scalars after parsing, so a value from the environment cannot become structure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

Location = tuple[str | int, ...]
"""Where a value is: the keys and list positions that lead to it."""

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 20_000
"""Most values that are built. Aliases are expanded, so ten lines could otherwise need gigabytes."""

_CORE_TYPES = {  # int() refuses more than 4300 digits; a longer number is a float here, and so infinite
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]{1,4000}|0x[0-9a-fA-F]+|0o[0-7]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "merge": (r"<<", ["<"]),
}
_MERGE = "tag:yaml.org,2002:merge"
_REFERENCE = re.compile(r"\$(?P<escape>\$)\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{")


class YamlError(ValueError):
    """An error in the text: `line` counts from 1, `location` is empty if the error concerns no key."""

    def __init__(self, problem: str, line: int | None, location: Location = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.location = location


class NotSetError(ValueError):
    """The variable is not set, and the text has no default for it."""


class NotSet(str):
    """A text in a shadow's section with a `${NAME}` that is not set; `problem` names it.

    Anywhere else this is an error. A shadow may lack a setting without harm to callers.
    """

    problem: str


class FromEnvironment(str):
    """Text with something from the environment: it may stand for a number, and may be a secret."""

    __slots__ = ()


class QuotedFromEnvironment(FromEnvironment):
    """The same in quotes, in a variable that holds a list or a mapping: it stands for nothing but a text."""

    __slots__ = ()


class IntFromEnvironment(int):
    """A whole number within JSON from the environment: it may be a secret too."""

    __slots__ = ()


class FloatFromEnvironment(float):
    """The same for any other number. orjson writes a subclass of float only with `default=float`."""

    __slots__ = ()


FROM_ENVIRONMENT = (FromEnvironment, IntFromEnvironment, FloatFromEnvironment)


@dataclass(frozen=True, slots=True)
class Document:
    """`values` is the text as dicts, lists and scalars; `lines` has the line of each key and list item."""

    values: Any
    lines: Mapping[Location, int]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the class attribute is PyYAML's interface


for _name, (_pattern, _first) in _CORE_TYPES.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), _first)


def parse(text: str, environment: Mapping[str, str]) -> Document:
    """Read one YAML document. Raises YamlError for its first error."""
    return _built(text, _Build(environment))


def marked(text: str) -> Any:
    """The value of a variable of the environment that is YAML by itself: every text in it is marked as from there.

    Raises YamlError.
    """
    return _built(text, _MarkedBuild({})).values


def _built(text: str, build: "_Build") -> Document:
    if len(text) > MAX_BYTES:
        raise YamlError(f"is longer than {MAX_BYTES} characters", None)
    try:
        root = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise YamlError(f"not YAML: {problem}", mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise YamlError(f"not YAML: {' '.join(str(error).split())}", None) from None
    except RecursionError:
        raise YamlError("is nested too deeply", None) from None
    if root is None:
        return Document(None, {})
    try:
        return Document(build.value(root, ()), build.lines)
    except RecursionError:
        raise YamlError("an alias contains itself", None) from None


def is_of_shadow(location: Location) -> bool:
    """Whether it is a setting of one shadow."""
    return len(location) > 2 and location[0] == "shadows"


def substituted(text: str, environment: Mapping[str, str]) -> str:
    """A text with every `${NAME}` replaced. Raises ValueError; NotSetError for a variable that is not set."""
    taken = False

    def replace(found: re.Match[str]) -> str:
        nonlocal taken
        if found["escape"]:
            return "${"
        name = found["name"]
        if name is None:
            raise ValueError("write ${NAME} or ${NAME:-default}, and $${ for a plain ${")
        taken = True
        value = environment.get(name)
        # The default also replaces an empty variable, as in the shell.
        if found["default"] is not None:
            return value or found["default"]
        if value is None:
            raise NotSetError(f"the environment variable {name} is not set")
        return value

    text = _REFERENCE.sub(replace, text)
    return FromEnvironment(text) if taken else text


def retype(text: FromEnvironment) -> Any:
    """The value that YAML would read from this text in the file: a number, true, false, null, or the text."""
    if isinstance(text, QuotedFromEnvironment):
        return text
    return _typed(_tag(text), text)


def _tag(text: str) -> str:
    for name, (pattern, _) in _CORE_TYPES.items():
        if re.fullmatch(pattern, text):
            return name
    return "str"


def _typed(kind: str, text: str) -> Any:
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            return text


class _Build:
    """One walk over the node tree: collects the lines, and counts the values it builds."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.lines: dict[Location, int] = {}
        self._environment = environment
        self._built = 0

    def value(self, node: yaml.Node, location: Location) -> Any:
        self._built += 1
        if self._built > MAX_NODES:
            self._fail(f"has more than {MAX_NODES} values with its aliases expanded", node, ())
        if len(location) > MAX_DEPTH:
            self._fail(f"is nested deeper than {MAX_DEPTH} levels", node, location[:3])
        self.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, location)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        # Merges first: a key that is both merged and here gets the line here.
        for key_node, value_node in sorted(node.value, key=lambda pair: pair[0].tag != _MERGE):
            if key_node.tag == _MERGE:
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for source in sources:
                    values = self.value(source, location)
                    if not isinstance(values, dict):
                        self._fail("<< takes a mapping, or a list of them", key_node, location)
                    merged = values | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._fail("a key must be plain text", key_node, location)
            key = key_node.value
            if key in own:
                self._fail("appears twice", key_node, (*location, key))
            # Set before the value is read: an error names the line of the key, not of the block beneath it.
            self.lines[(*location, key)] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, (*location, key))
        return merged | own

    def _scalar(self, node: yaml.Node, location: Location) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind not in ("str", "null", "bool", "int", "float"):
            self._fail(f"the tag {node.tag} is not supported", node, location)
        if kind != "str":
            return _typed(kind, node.value)
        return self._substituted(node, location)

    def _substituted(self, node: yaml.Node, location: Location) -> str:
        try:
            return substituted(node.value, self._environment)
        except ValueError as error:
            if isinstance(error, NotSetError) and is_of_shadow(location):
                text = NotSet(node.value)
                text.problem = str(error)
                return text
            self._fail(str(error), node, location)

    def _fail(self, problem: str, node: yaml.Node, location: Location) -> NoReturn:
        raise YamlError(problem, node.start_mark.line + 1, location)


class _MarkedBuild(_Build):
    """The same for a value from the environment, in which nothing is replaced."""

    def _scalar(self, node: yaml.Node, location: Location) -> Any:
        is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return FromEnvironment(node.value) if is_plain else QuotedFromEnvironment(node.value)

"""What mypyc silently does otherwise than Python is not written in the modules that are compiled (CONTRIBUTING.md).

What it refuses or raises for, `make test-compiled` finds. These few would change what the program does, and be seen
only where a test happens to pass by.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from for_compiled import INTERPRETED

pytest_plugins = ("pytester",)

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]

PURE = {"len", "min", "max"}

WORDS_OF_GCC = {"_asm", "_attribute", "_complex", "_const", "_extension", "_imag", "_inline", "_label", "_real"} | {
    "_restrict", "_signed", "_thread", "_typeof", "_volatile"
}  # fmt: skip

Found = Iterator[ast.AST]


def acts_in_a_slice(tree: ast.AST) -> Found:
    """Of what is neither str, bytes, list nor tuple, the bounds of a slice are worked out twice."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Slice):
            for each in ast.walk(node):
                pure = isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in PURE
                if isinstance(each, ast.Call | ast.NamedExpr | ast.Await) and not pure:
                    yield each


def two_kinds_of_error_by_one_name(tree: ast.AST) -> Found:
    """The name has the type of the first, and to catch the second under it is a TypeError."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            first: dict[str, str] = {}
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                    kind = ast.unparse(node.type)
                    if first.setdefault(node.name, kind) != kind:
                        yield node


def asks_in_finally_whether_it_is_none(tree: ast.AST) -> Found:
    """mypy knows the names' types at the end of a `try` that went well, and where it did not they are believed too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            inside = [each for statement in node.body for each in ast.walk(statement)]
            stored = {each.id for each in inside if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
            for each in (each for statement in node.finalbody for each in ast.walk(statement)):
                match each:
                    case ast.Compare(left=ast.Name(id=name), comparators=[ast.Constant(value=None)]) if name in stored:
                        yield each


def believes_an_attribute_after_a_call(tree: ast.AST) -> Found:
    """After `if self.a is None: self.f()` it is believed to be None still, though f is what sets it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and (asked := asked_for_none(node.test)) is not None:
            called = False
            for statement in node.body:
                same = [
                    each
                    for each in ast.walk(statement)
                    if isinstance(each, ast.Attribute) and ast.unparse(each) == asked
                ]
                if called:
                    yield from (each for each in same if isinstance(each.ctx, ast.Load))
                called |= any(of_the_same(each, asked) for each in ast.walk(statement))
                called &= not any(isinstance(each.ctx, ast.Store) for each in same)


def is_a_word_of_the_c_compiler(tree: ast.AST) -> Found:
    """mypyc writes a field of an object with one more underscore before its name: `_thread` becomes `__thread`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in WORDS_OF_GCC:
            yield node


def asked_for_none(test: ast.expr) -> str | None:
    match test:
        case ast.Compare(left=ast.Attribute() as left, ops=[ast.Is()], comparators=[ast.Constant(value=None)]):
            return ast.unparse(left)
    return None


def of_the_same(node: ast.AST, attribute: str) -> bool:
    """Whether this calls a method of the object whose attribute that is."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == attribute.rpartition(".")[0]
    )


RULES: dict[Callable[[ast.AST], Found], tuple[str, str]] = {
    acts_in_a_slice: ("rest = rest[self.write(rest) :]", "size = self.write(rest)\nrest = rest[size : len(rest)]"),
    two_kinds_of_error_by_one_name: (
        "def f():\n try: pass\n except KeyError as e: pass\n except ValueError as e: pass",
        "def f():\n try: pass\n except KeyError as e: pass\n except ValueError as error: pass",
    ),
    asks_in_finally_whether_it_is_none: (
        "x = None\ntry:\n x = f()\nfinally:\n if x is None: g()",
        "x = DEFECT\ntry:\n y = f()\nfinally:\n if x is DEFECT: g()",
    ),
    is_a_word_of_the_c_compiler: ("self._thread = Thread()", "self._writing_thread = Thread()"),
    believes_an_attribute_after_a_call: (
        "if self.head is None:\n  data = self.read(data)\n  if self.head is None:\n    return",
        "if self.head is None:\n  self.head = self.read(data)\n  g(self.head)",
    ),
}
"""Each with what it is about, and with how that can be said instead."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_compiled_module(rule: Callable[[ast.AST], Found]) -> None:
    found = [
        f"{path}:{getattr(node, 'lineno', 0)}"
        for path in MODULES
        for node in rule(ast.parse((ROOT / path).read_text()))
    ]
    assert found == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_what_is_looked_for_is_found_and_what_is_meant_instead_is_not(rule: Callable[[ast.AST], Found]) -> None:
    wrong, right = RULES[rule]
    assert list(rule(ast.parse(wrong)))
    assert not list(rule(ast.parse(right)))


def test_no_cause_of_an_error_is_read() -> None:
    """`raise ... from error` sets none where it is compiled."""
    sources = [
        path for path in (ROOT / "shadowproxy").rglob("*.py") if re.search(r"__cause__(?! = )", path.read_text())
    ]
    assert [path.name for path in sources] == []


def test_no_interpreted_class_inherits_from_a_compiled_one() -> None:
    """Python refuses it, at the import: so the whole program would not start."""
    compiled = {
        (path.removesuffix(".py").replace("/", "."), node.name)
        for path in MODULES
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    found = []
    for path in sorted((ROOT / "shadowproxy").rglob("*.py")):
        if path.relative_to(ROOT).as_posix() in MODULES:
            continue
        tree = ast.parse(path.read_text())
        imported = {
            each.asname or each.name: (node.module, each.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for each in node.names
        }
        found += [
            f"{path}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for base in node.bases
            if isinstance(base, ast.Name) and imported.get(base.id) in compiled
        ]
    assert found == []


def imports(path: Path) -> set[str]:
    """The names of all that a file imports, modules and what is in them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ImportFrom(module=str(module)):
                found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
            case ast.Import():
                found |= {alias.name for alias in node.names}
    return found


def test_no_test_that_ci_leaves_out_for_the_compiled_program_imports_a_compiled_module() -> None:
    compiled = {path.removesuffix(".py").replace("/", ".") for path in MODULES}
    files = {name: ROOT / "tests" / f"test_{name}.py" for name in INTERPRETED}
    assert {name for name, path in files.items() if imports(path) & compiled} == set()


def test_a_file_of_tests_is_run_for_the_compiled_program_unless_it_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not the name of one of the project's files: this process may have imported it.
    monkeypatch.setattr("for_compiled.INTERPRETED", {"that_is_left_out"})
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makeconftest('pytest_plugins = ("for_compiled",)')
    pytester.makepyfile(test_that_is_left_out="def test(): pass", test_that_is_new="def test(): pass")
    for options, outcomes in (((), {"passed": 2}), (("--for-compiled",), {"passed": 1, "deselected": 1})):
        pytester.runpytest_inprocess("-p", "no:cacheprovider", *options).assert_outcomes(**outcomes)

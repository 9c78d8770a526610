#!/usr/bin/env bash
# mypy 2.4.1 (mypyc, with setuptools 84.2.1, CPython 3.11): `a_frozenset & a_dict.keys()` works interpreted and is a
# TypeError compiled.
#
# The type stubs say that frozenset & (any set) is a frozenset. At run time frozenset does not support dict views, so the
# view's own __rand__ runs and returns a set. The interpreter accepts it; compiled code checks the value against the
# inferred type. Result: interpreted a set, compiled "frozenset object expected; got set".
#
# Needs a C compiler. Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check mypy==2.4.1 setuptools==84.2.1
cd "$place"
cat >shared_names.py <<'PYTHON'
def shared(names: frozenset[str], members: dict[str, int]) -> object:
    return names & members.keys()
PYTHON
cat >call.py <<'PYTHON'
import shared_names

try:
    print(type(shared_names.shared(frozenset({"a", "b"}), {"b": 1})).__name__)
except TypeError as error:
    print("TypeError:", error)
PYTHON
interpreted=$(venv/bin/python call.py)
venv/bin/mypyc shared_names.py >build.log 2>&1 || { cat build.log; exit 1; }
rm shared_names.py
compiled=$(venv/bin/python call.py)
echo "interpreted: $interpreted"
echo "compiled:    $compiled"
[ "$interpreted" = set ] && [[ "$compiled" == "TypeError: frozenset object expected; got set"* ]]

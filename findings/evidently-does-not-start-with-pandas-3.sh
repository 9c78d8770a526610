#!/usr/bin/env bash
# evidently 0.7.23 declares pandas>=1.3.5 without a cap, so pip installs pandas 3.1.1 beside it; then `import evidently` fails:
# a module of its legacy part imports infer_dtype_from_object from pandas.core.dtypes.common, which pandas 3 does not have.
# With pandas 2.3.3 it starts.
#
# Exits 0 while the import fails with pandas 3.1.1 and works with 2.3.3, 1 when that has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip evidently==0.7.23 pandas==3.1.1
said=$("$place/venv/bin/python" -W ignore -c 'import evidently' 2>&1 | tail -n 1 || true)
echo "pandas 3.1.1: $said"
[[ $said == *"cannot import name 'infer_dtype_from_object'"* ]] || exit 1
pip pandas==2.3.3
"$place/venv/bin/python" -W ignore -c 'import evidently; print("pandas 2.3.3: it starts")' || exit 1

#!/bin/sh
# Writes a bill of what ships, dist/shadowproxy.cdx.json, in CycloneDX's JSON: the program and each distribution that it
# runs on, with licences and who needs whom. They are installed from the image's lock, hashes checked, into a place of
# their own: a list of names would know no licences. What the base image brings, CPython and Debian's packages, is for a
# scanner of images. `sbom.sh PYTHON INTO` names the Python and the directory.
set -eu
cd "$(dirname "$0")/../.."
python=${1:-python3}
into=${2:-dist}
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1

"$python" -m venv "$new/tool"
"$new/tool/bin/pip" install --quiet cyclonedx-bom==7.5.0 hatchling
"$python" -m venv --without-pip "$new/ships"
install() { "$new/tool/bin/pip" --python "$new/ships/bin/python" install --quiet --no-deps --only-binary :all: "$@"; }
install --require-hashes -r deploy/image/requirements.lock
"$new/tool/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$new/wheel" .
install --no-index "$new"/wheel/*.whl
version=$("$new/ships/bin/shadowproxy" --version | cut -d ' ' -f 2)
sed "s/^dynamic = .*/version = \"$version\"/" pyproject.toml >"$new/pyproject.toml"  # the tool asks no build backend
mkdir -p "$into"
# Reproducible: without the time and a random number. With texts, as not every package names its licence by SPDX.
"$new/tool/bin/cyclonedx-py" environment --gather-license-texts --pyproject "$new/pyproject.toml" --output-reproducible \
    --output-file "$into/shadowproxy.cdx.json" "$new/ships/bin/python"

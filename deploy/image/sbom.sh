#!/bin/sh
# Writes a bill of materials, dist/shadowproxy.cdx.json, in CycloneDX's JSON: the program and each distribution that it
# needs, with licences and dependencies. They are installed from the image's lock, with checked hashes, into a directory of
# their own, because a list of names has no licences. Use a scanner of images for CPython and Debian's packages in the
# base image. `sbom.sh PYTHON INTO` names the Python and the directory.
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
sed "s/^dynamic = .*/version = \"$version\"/" pyproject.toml >"$new/pyproject.toml"  # the tool does not call the build backend
mkdir -p "$into"
# Reproducible: without the time and a random number. With licence texts, as some packages do not use SPDX names.
"$new/tool/bin/cyclonedx-py" environment --gather-license-texts --pyproject "$new/pyproject.toml" --output-reproducible \
    --output-file "$into/shadowproxy.cdx.json" "$new/ships/bin/python"

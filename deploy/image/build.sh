#!/bin/sh
# Builds the image, and says what is in it: dist/image.json has the image's ID, its bases with their digests, the revision
# of the sources and the hashes of what decides its content; the bill of materials is beside it. `build.sh PYTHON INTO
# [ARGUMENTS]` names the Python and the directory; the arguments are `docker build`'s, as in
# `--build-arg SLIM=python:3.13-slim@sha256:...`.
set -eu
cd "$(dirname "$0")/../.."
python=${1:-python3}
into=${2:-dist}
[ $# -lt 2 ] && shift $# || shift 2

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' shadowproxy/__init__.py)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision="$revision, changed"

docker build --tag "shadowproxy:$version" --build-arg "REVISION=$revision" "$@" .
deploy/image/sbom.sh "$python" "$into"
docker image inspect "shadowproxy:$version" | "$python" deploy/image/provenance.py "$into" "$revision"

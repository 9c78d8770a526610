#!/bin/sh
# Writes the image's locked requirements again, from pyproject.toml and constraints.txt; needs uv. Run it when one of them
# changes; tests/test_deploy.py fails if that was forgotten. The lock has the hash of every file of a release, so one lock
# works for every processor. It names no index, so pip uses the configured one.
set -eu
cd "$(dirname "$0")/../.."
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

lock() { # lock SOURCE OUTPUT WHAT [OPTIONS]
    echo "# $3 Written by deploy/image/lock.sh: do not edit." >"$new/lock"
    uv pip compile --no-config --no-header --no-annotate --generate-hashes --no-emit-index-url \
        --python-version 3.13 --python-platform linux --constraint constraints.txt "$1" ${4-} 2>"$new/said" >>"$new/lock" ||
        { cat "$new/said" >&2; exit 1; }
    cp "$new/lock" "$2"
}

# Includes the extras for traces and for object stores, because nothing can be installed in the image later.
lock pyproject.toml deploy/image/requirements.lock "What the sidecar runs on." "--extra otel --extra fleet"
printf '%s\n' hatchling mypy setuptools >"$new/build.in"
lock "$new/build.in" deploy/image/build.lock "What builds and compiles the wheel, in a stage that does not ship."

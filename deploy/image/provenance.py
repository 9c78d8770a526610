"""Write what an image was made of, and print it: `docker image inspect IMAGE | provenance.py INTO REVISION`."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DECIDE = ("Dockerfile", "deploy/image/requirements.lock", "deploy/image/build.lock", "pyproject.toml", "hatch_build.py")
"""The files that decide, beside the package's own, what the image holds."""


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sources() -> str:
    """One hash of the package's files: of each path with the hash of its content, in order."""
    files = sorted(path for path in (ROOT / "shadowproxy").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sha256("".join(f"{path.relative_to(ROOT)} {sha256(path.read_bytes())}\n" for path in files).encode())


def digests(base: str) -> list[str]:
    """The digests by which registries know this base image; none if it was made here."""
    done = subprocess.run(["docker", "image", "inspect", base], capture_output=True, text=True, check=False)
    return sorted(json.loads(done.stdout)[0].get("RepoDigests") or []) if done.returncode == 0 else []


def provenance(image: dict[str, Any], revision: str, bill: Path) -> dict[str, Any]:
    base = image["Config"]["Labels"]["org.opencontainers.image.base.name"]
    return {
        "image": image["Id"],
        "tags": image["RepoTags"],
        "bytes": image["Size"],
        "platform": f"{image['Os']}/{image['Architecture']}",
        "version": image["Config"]["Labels"]["org.opencontainers.image.version"],
        "revision": revision,
        "base": {"name": base, "digests": digests(base)},
        "files": {name: sha256((ROOT / name).read_bytes()) for name in DECIDE} | {"shadowproxy/": sources()},
        "bill_of_materials": {"file": bill.name, "sha256": sha256(bill.read_bytes())},
    }


def main() -> None:
    into, revision = Path(sys.argv[1]), sys.argv[2]
    (image,) = json.load(sys.stdin)
    made = provenance(image, revision, into / "shadowproxy.cdx.json")
    text = json.dumps(made, indent=1)
    (into / "image.json").write_text(text + "\n")
    sys.stdout.write(f"{text}\n")
    parts = json.loads((into / "shadowproxy.cdx.json").read_text())["components"]
    for each in parts:
        sys.stdout.write(f"  {each['name']} {each.get('version', '')}\n")


if __name__ == "__main__":
    main()

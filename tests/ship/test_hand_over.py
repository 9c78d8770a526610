"""The files that hand a verdict to GitHub and GitLab fit the schemas that their editors use."""

import re
import subprocess
from pathlib import Path

import pytest

from ship.engine import ROOT

pytestmark = pytest.mark.soak

HANDOVER = ROOT / "deploy/handover"


def fits(tools: dict[str, str], file: Path, *words: str) -> None:
    done = subprocess.run(["check-jsonschema", *words, file], env=tools, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_action_and_the_pages_workflow_fit_githubs_schemas(tools: dict[str, str], tmp_path: Path) -> None:
    fits(tools, HANDOVER / "github/action.yml", "--builtin-schema", "vendor.github-actions")
    page = (ROOT / "docs/how-to/hand-over.md").read_text()
    (workflow,) = re.findall(r"```yaml\n(on: pull_request\n.*?)```", page, re.DOTALL)
    (tmp_path / "workflow.yml").write_text(workflow)
    fits(tools, tmp_path / "workflow.yml", "--builtin-schema", "vendor.github-workflows")


def test_the_job_fits_gitlabs_schema(tools: dict[str, str]) -> None:
    file = HANDOVER / "gitlab/shadow-report.yml"
    fits(tools, file, "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")

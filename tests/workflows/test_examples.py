"""Every example builds, is accepted by Argo with the WorkflowTemplate it uses, and says how it is run."""

import subprocess
from pathlib import Path

import pytest
import yaml

from steps.campaign_input import CampaignInput, campaign_input
from workflows.userfile import load

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PYTHON = sorted(set(EXAMPLES.glob("*.py")) - {EXAMPLES / "demo.py"})  # the demo needs no cluster
TEMPLATE = ROOT / "deploy/components/campaign-namespace/capture-campaign.yaml"


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_its_arguments_are_a_campaign(path: Path) -> None:
    given = {each["name"]: each["value"] for each in load(path).to_dict()["spec"]["arguments"]["parameters"]}
    template = yaml.safe_load(TEMPLATE.read_text())["spec"]["arguments"]["parameters"]
    assert set(given) <= set(CampaignInput.model_fields)
    campaign_input({each["name"]: each["value"] for each in template} | given)


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_what_it_refers_to_is_installed(path: Path) -> None:
    spec = load(path).to_dict()["spec"]
    names = {each["name"] for each in yaml.safe_load(TEMPLATE.read_text())["spec"]["templates"]}
    if "workflowTemplateRef" in spec:
        assert spec["workflowTemplateRef"] == {"name": "capture-campaign"}
        return
    tasks = [task for template in spec["templates"] for task in template.get("dag", {}).get("tasks", ())]
    references = [task["templateRef"] for task in [*tasks, *spec["hooks"].values()] if "templateRef" in task]
    assert len(references) == 2
    assert all(each["name"] == "capture-campaign" and each["template"] in names for each in references)
    # The called template refers to the caller's parameters, so that the caller must have them all.
    assert {each["name"] for each in spec["arguments"]["parameters"]} == set(CampaignInput.model_fields)


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_argo_accepts_it(argo: str, path: Path, tmp_path: Path) -> None:
    workflow = load(path)
    workflow.namespace = None  # or argo's offline lint would look for the template in that namespace
    (tmp_path / "workflow.yaml").write_text(str(workflow.to_yaml()))
    subprocess.run([argo, "lint", "--offline", TEMPLATE, tmp_path / "workflow.yaml"], check=True)


@pytest.mark.parametrize("path", [*PYTHON, *EXAMPLES.glob("*.yaml")], ids=lambda path: path.name)
def test_it_says_how_it_is_run(path: Path) -> None:
    text = path.read_text()
    assert f"examples/{path.name} --wait" in text.split("import")[0]


def test_the_campaign_file_is_a_campaign() -> None:
    asked = campaign_input(yaml.safe_load((EXAMPLES / "campaign.yaml").read_text()))
    assert asked.duration == 60
    assert asked.owners == ["Deployment/web", "StatefulSet/db"]

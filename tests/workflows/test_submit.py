"""Submit: everything that a campaign needs is there afterwards; or nothing is, and one sentence says why."""

import json
from copy import deepcopy
from typing import Any

import pytest

from steps.campaign_input import InvalidInputError, campaign_input
from steps.cluster import ClusterError
from steps.objects import ObjectStoreError
from steps.plan import Plan
from steps.resolve import ResolveError
from workflows.cluster import Cluster
from workflows.store import open_store
from workflows.submit import plan, submit

NAMESPACE = "snoopy-operator"
WORKFLOW = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows/c"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/c"
PLAN = f"reports/{NAMESPACE}/c/plan.json"
ASKED = {"namespaces": "shop", "selector": "app=web", "duration": "1m"}


def start(cluster: Cluster, **changes: Any) -> Plan:
    return submit(cluster, open_store(cluster), campaign_input(ASKED | changes), "c", print)


def test_the_plan_the_upload_rights_and_the_workflow_are_there(cluster: Cluster, api: Any, s3: Any) -> None:
    plan = start(cluster)
    assert [target.name for target in plan.targets] == ["shop/web-1", "shop/web-2"]
    assert Plan.model_validate_json(s3.objects[PLAN]) == plan
    assert set(api.objects[SECRET]["stringData"]) == {"web-1-0000-0000", "web-2-0000-0000"}
    assert api.objects[SECRET]["metadata"]["ownerReferences"] == [
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "c", "uid": "uid-1"}
    ]
    arguments = {each["name"]: each["value"] for each in api.objects[WORKFLOW]["spec"]["arguments"]["parameters"]}
    assert [item["target"] for item in json.loads(arguments["targets"])] == ["shop/web-1", "shop/web-2"]


def test_an_upload_right_names_the_store_as_pods_reach_it(cluster: Cluster, api: Any, s3: Any) -> None:
    start(cluster)
    policy = json.loads(api.objects[SECRET]["stringData"]["web-1-0000-0000"])
    assert policy["url"] == "http://minio:9000/snoopy"
    assert s3.address not in json.dumps(api.objects[SECRET])


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/workflows$"), ("POST", "/secrets$")],
    ids=["no Workflow", "no Secret"],
)
def test_what_is_refused_half_way_leaves_nothing_behind(
    cluster: Cluster, api: Any, s3: Any, method: str, path: str
) -> None:
    before = deepcopy(api.objects)
    api.refusals[method, path] = (403, 'secrets is forbidden: User "ann" cannot do this')
    with pytest.raises(ClusterError, match='User "ann" cannot do this'):
        start(cluster)
    assert api.objects == before
    assert s3.objects == {}


def test_a_store_that_cannot_be_written_leaves_nothing_behind(cluster: Cluster, api: Any, s3: Any) -> None:
    before = deepcopy(api.objects)
    s3.refused = {"PUT"}
    with pytest.raises(ObjectStoreError, match="refuses the keys"):
        start(cluster)
    assert api.objects == before


def test_a_bucket_that_is_not_there_is_found_before_anything_is_created(cluster: Cluster, api: Any, s3: Any) -> None:
    text = api.objects[f"/api/v1/namespaces/{NAMESPACE}/configmaps/artifact-repositories"]["data"]
    text["snoopy"] = text["snoopy"].replace("bucket: snoopy", "bucket: elsewhere")
    before = deepcopy(api.objects)
    with pytest.raises(ObjectStoreError, match="'elsewhere': no such bucket"):
        start(cluster)
    assert (api.objects, s3.objects) == (before, {})


def test_who_may_not_exec_may_not_capture(cluster: Cluster, api: Any, s3: Any) -> None:
    api.may_exec = False
    with pytest.raises(ClusterError, match="may not create pods/exec in namespace shop"):
        start(cluster)
    assert ("GET", "/api/v1/namespaces/shop/pods") not in api.asked
    assert s3.objects == {}


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"namespaces": "nosuch"}, ResolveError, "'nosuch': no such namespace"),
        ({"selector": "app=nosuch"}, ResolveError, "no target"),
        ({"filter": "tcp port"}, InvalidInputError, "filter: 'tcp port'"),
        ({"filter": "; id"}, InvalidInputError, "filter: '; id'"),
        ({"tool": "iperf3", "arguments": "-c 10.0.0.7 --logfile /x"}, InvalidInputError, "arguments: .*logfile"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused_before_anything_is_created(
    api: Any, s3: Any, changes: dict[str, str], error: type[Exception], sentence: str
) -> None:
    before = deepcopy(api.objects)
    with pytest.raises(error, match=sentence):
        start(Cluster(api.client(), NAMESPACE), **changes)
    assert (api.objects, s3.objects) == (before, {})


def test_a_name_whose_captures_are_still_in_the_store_is_taken(cluster: Cluster, s3: Any) -> None:
    s3.objects[f"pcaps/{NAMESPACE}/c/shop_web-1_0_eth0/000001.pcap"] = b""
    with pytest.raises(InvalidInputError, match="'c' is taken"):
        start(cluster)


@pytest.mark.parametrize("taken", [SECRET, WORKFLOW], ids=["Secret", "Workflow"])
def test_a_name_that_the_cluster_knows_is_taken(cluster: Cluster, api: Any, s3: Any, taken: str) -> None:
    api.objects[taken] = {"metadata": {"name": "c"}}
    before = deepcopy(api.objects)
    with pytest.raises(InvalidInputError, match=r"name: 'c' is taken: .*already exists$"):
        start(cluster)
    assert (api.objects, s3.objects) == (before, {})


def test_what_cannot_be_undone_does_not_hide_the_reason(cluster: Cluster, api: Any, s3: Any) -> None:
    api.refusals["POST", "/workflows$"] = (403, "no workflows for ann")
    s3.refused = {"DELETE"}
    with pytest.raises(ClusterError, match="no workflows for ann") as refusal:
        start(cluster)
    assert SECRET not in api.objects
    (note,) = refusal.value.__notes__
    assert note.startswith("left behind: the object store at ")


def test_a_filter_that_cannot_be_checked_here_is_said(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    plan(cluster, campaign_input(ASKED), "c", print)
    assert capsys.readouterr().out == ""
    plan(cluster, campaign_input(ASKED | {"filter": "tcp prt 80"}), "c", print)
    assert capsys.readouterr().out == "tcpdump is not installed here: the filter is checked by the capture pods\n"


def test_a_name_that_kubernetes_would_refuse(cluster: Cluster, s3: Any) -> None:  # noqa: ARG001
    with pytest.raises(InvalidInputError, match="name: 'My campaign'"):
        submit(cluster, open_store(cluster), campaign_input(ASKED), "My campaign", print)


def test_without_the_template_it_says_what_to_do(cluster: Cluster, api: Any, s3: Any) -> None:  # noqa: ARG001
    del api.objects[f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflowtemplates/capture-campaign"]
    with pytest.raises(ClusterError, match="run 'make deploy'"):
        start(cluster)


@pytest.mark.parametrize("missing", ["configmaps/artifact-repositories", "secrets/snoopy-s3"])
def test_without_the_object_stores_settings_it_says_which(cluster: Cluster, api: Any, missing: str) -> None:
    del api.objects[f"/api/v1/namespaces/{NAMESPACE}/{missing}"]
    with pytest.raises(ClusterError, match=f"{missing.partition('/')[2]}: run 'make deploy'"):
        open_store(cluster)

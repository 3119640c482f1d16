"""What resolving hands over: the plan to the join, an item per target to the fan-out, a policy to each capture.

The policies travel in a Secret that belongs to the Workflow, so that no parameter, argument or log holds one.
"""

import json
from typing import Any

from kubernetes import client

from steps.cluster import explained
from steps.objects import Bucket, Repository, upload_policies
from steps.plan import Plan, reports_prefix


def put_plan(bucket: Bucket, plan: Plan) -> None:
    """Store plan.json where the join looks for it. Raises ObjectStoreError."""
    key = reports_prefix(plan.namespace, plan.campaign) + "plan.json"
    bucket.put(key, plan.model_dump_json(by_alias=True, indent=1).encode())


def items(plan: Plan) -> str:
    """Give the fan-out's items as JSON. `target` sorts last: Argo's UI names a node after the end of its item."""
    return json.dumps([{"id": target.uid, "node": target.node, "target": target.name} for target in plan.targets])


def create_secret(api: client.ApiClient, plan: Plan, where: Repository, workflow_uid: str) -> None:
    """Create the Secret that holds the upload policies, by target UID; the Workflow owns it.

    Raises:
        ClusterError: it could not be created.

    """
    body: Any = {
        "metadata": {
            "name": plan.campaign,
            "labels": {"app.kubernetes.io/part-of": "snoopy"},
            "ownerReferences": [_owner(plan.campaign, workflow_uid)],
        },
        "stringData": upload_policies(where, plan),
    }
    with explained(f"create secret {plan.namespace}/{plan.campaign}"):
        client.CoreV1Api(api).create_namespaced_secret(plan.namespace, body)


def _owner(workflow: str, uid: str) -> dict[str, Any]:
    """Give the reference that lets Kubernetes delete an object with its Workflow."""
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": workflow, "uid": uid}

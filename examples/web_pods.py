"""Capture at every pod labelled app=web for half a minute: a campaign as a Hera Workflow of your own.

With your kubeconfig, through the Kubernetes API:

    snoopy submit examples/web_pods.py --wait

With Hera itself, through the Argo server (ARGO_SERVER=https://HOST:2746, ARGO_TOKEN="Bearer ..."):

    python examples/web_pods.py

Arguments have the names of `snoopy submit`'s flags. What is not given is as the WorkflowTemplate has it.
"""

import os

from hera.workflows import Workflow, WorkflowsService
from hera.workflows.models import WorkflowTemplateRef

workflow = Workflow(
    generate_name="web-pods-",
    namespace="snoopy-operator",
    workflow_template_ref=WorkflowTemplateRef(name="capture-campaign"),
    arguments={"namespaces": "shop", "selector": "app=web", "duration": "30s"},
)

if __name__ == "__main__":
    workflow.workflows_service = WorkflowsService(host=os.environ["ARGO_SERVER"], token=os.environ["ARGO_TOKEN"])
    print(workflow.create(wait=True).status.phase)

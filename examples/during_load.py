"""Capture while a load runs: a campaign as one task of your own Workflow, beside yours.

    snoopy submit examples/during_load.py --wait

The campaign is called by templateRef, so that this Workflow brings what the WorkflowTemplate would have brought:
all of the campaign's parameters, who talks to Kubernetes, and the exit handler, which reports what was captured
when the Workflow is stopped. One Workflow holds one campaign. A controller with `templateReferencing: Strict` runs
installed templates only, and refuses this one.
"""

from hera.workflows import DAG, Container, Task, Workflow
from hera.workflows.models import ExecutorConfig, LifecycleHook, TemplateRef

from steps.campaign_input import campaign_input

REQUESTS = """
import time, urllib.request
for _ in range(100):
    urllib.request.urlopen("http://web.shop.svc.cluster.local", timeout=5).read()
    time.sleep(0.2)
"""

with Workflow(
    generate_name="during-load-",
    namespace="snoopy-operator",
    entrypoint="experiment",
    arguments=campaign_input({"namespaces": "shop", "selector": "app=web", "duration": "30s"}).parameters(),
    service_account_name="snoopy-workflow",
    automount_service_account_token=False,
    executor=ExecutorConfig(service_account_name="snoopy-workflow"),
    hooks={"exit": LifecycleHook(template_ref=TemplateRef(name="capture-campaign", template="exit"))},
) as workflow:
    load = Container(name="load", image="localhost/snoopy:dev", command=["python", "-c", REQUESTS])
    with DAG(name="experiment"):
        Task(name="load", template=load)
        Task(name="campaign", template_ref=TemplateRef(name="capture-campaign", template="campaign"))

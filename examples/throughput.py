"""Measure what an iperf3 client in each pod of the daemon set `agent` reaches, and capture it meanwhile.

    snoopy submit examples/throughput.py --wait

iperf3 runs in the pods' network namespaces, so that nothing needs to be installed in the pods. The server is
yours: here a Service `iperf3` in the namespace `shop`, with `iperf3 --server` behind it. An iperf3 server takes one
client at a time, so that only the pods of one node are clients here.
"""

from hera.workflows import Workflow
from hera.workflows.models import WorkflowTemplateRef

workflow = Workflow(
    generate_name="throughput-",
    namespace="snoopy-operator",
    workflow_template_ref=WorkflowTemplateRef(name="capture-campaign"),
    arguments={
        "namespaces": "shop",
        "owners": "daemonset/agent",
        "nodes": "node-1",
        "tool": "tcpdump+iperf3",
        "arguments": "--client iperf3.shop.svc.cluster.local --time 10",
        "filter": "tcp port 5201",
        "snaplen": "128",
        "duration": "15s",
    },
)

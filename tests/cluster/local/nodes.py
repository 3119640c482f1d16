"""The nodes: each is a network, mount, PID, IPC and UTS namespace, so every path in it is the usual one."""

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from machine import BIN, KUBECONFIG, LOGS, NODES, STATE, ask
from processes import spawn

CGROUPS = Path("/sys/fs/cgroup")

CONTAINERD = """\
version = 2
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/snoopy/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"""

KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /snoopy-{name}
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: /etc/snoopy/resolv.conf
evictionHard: {{imagefs.available: "1%", nodefs.available: "1%", memory.available: 50Mi}}
imageGCHighThresholdPercent: 100
maxPods: 250
"""

# again: as a service manager would; the first try may meet a containerd that is not ready yet.
BOOT = """\
set -e
hostname {name}
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/containerd
mount -t tmpfs tmpfs /run/netns
bind() {{ mkdir -p "$1" "$2"; mount --bind "$1" "$2"; }}
bind {root}/kubelet /var/lib/kubelet
bind {root}/containerd /var/lib/containerd
bind {root}/cni-conf /etc/cni/net.d
bind {root}/cni-lib /var/lib/cni
bind {root}/etc /etc/snoopy
bind {root}/pods /var/log/pods
bind {root}/containers /var/log/containers
for shared in /run /run/netns /var/lib/kubelet /var/lib/containerd; do mount --make-rshared $shared; done
again() {{ while :; do "$@" || sleep 1; done; }}
containerd -c /etc/snoopy/containerd.toml >> {logs}/{name}-containerd.log 2>&1 &
for _ in $(seq 100); do ctr version > /dev/null 2>&1 && break; sleep 0.1; done
again {kube} proxy --kubeconfig={kubeconfig} --hostname-override={name} --cluster-cidr=10.244.0.0/16 \\
  --proxy-mode=iptables --conntrack-max-per-core=0 --conntrack-min=0 >> {logs}/{name}-proxy.log 2>&1 &
again {kube} kubelet --config=/etc/snoopy/kubelet.yaml --kubeconfig={kubeconfig} --hostname-override={name} \\
  --node-ip=172.30.0.{number} >> {logs}/{name}-kubelet.log 2>&1
"""


def start(name: str, number: int) -> None:
    """Start one node: its own namespaces, and in them containerd, kube-proxy and the kubelet."""
    root = STATE / name
    for part in ("etc", "cni-conf"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "cni-conf/10-bridge.conflist").write_text(json.dumps(_pod_network(number)))
    (root / "etc/containerd.toml").write_text(CONTAINERD)
    (root / "etc/kubelet.yaml").write_text(KUBELET.format(name=name))
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    boot = root / "etc/boot.sh"
    boot.write_text(
        BOOT.format(name=name, number=number, root=root, logs=LOGS, kube=BIN / "kube", kubeconfig=KUBECONFIG)
    )
    _make_cgroups(name)
    namespaces = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
    spawn(
        name,
        *("nsenter", f"--net=/run/netns/{name}"),
        *("unshare", *namespaces, "--propagation=private", "bash", boot),
    )


def _pod_network(number: int) -> dict[str, object]:
    ranges = [[{"subnet": f"10.244.{number}.0/24"}]]
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def _hierarchies() -> list[Path]:
    """Give the roots of the cgroup trees: one in version 2, one per controller in version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [tree for tree in CGROUPS.iterdir() if tree.is_dir() and (tree / "cgroup.procs").exists()]


def _make_cgroups(name: str) -> None:
    """Make the kubelet's root, which it wants to find."""
    for tree in _hierarchies():
        group = tree / f"snoopy-{name}"
        group.mkdir(exist_ok=True)
        for setting in (
            "cpuset.cpus",
            "cpuset.mems",
        ):  # empty in a new group of version 1, where nothing may run then
            if (tree / setting).exists():
                (group / setting).write_text((tree / setting).read_text())


def remove_cgroups() -> None:
    """Remove the nodes' cgroups, as they empty: each left behind costs the next kubelet three seconds."""
    deadline = time.monotonic() + 10
    for tree in _hierarchies():
        for name in NODES:
            for directory, _, _ in os.walk(tree / f"snoopy-{name}", topdown=False):
                while not _removed(Path(directory)) and time.monotonic() < deadline:
                    time.sleep(0.1)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


def ready_since(moment: float) -> Callable[[], bool]:
    """Give a test that every node is ready and renewed its lease since: a stopped one still says Ready."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))

    def ready() -> bool:
        nodes = ask("get", "nodes", "--no-headers")
        leases = ask(*("-n", "kube-node-lease", "get", "leases", "-o", "jsonpath={.items[*].spec.renewTime}")).split()
        return nodes.count(" Ready") == len(NODES) == sum(lease > stamp for lease in leases)

    return ready

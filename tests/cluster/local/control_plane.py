"""etcd, the API server, the controller manager and the scheduler, on this machine's side of the bridge."""

import base64
import json
import secrets
import subprocess

from machine import BIN, GATEWAY, KUBECONFIG, STATE, ask, run
from processes import spawn, wait

ETCD, PEERS = "http://127.0.0.1:23790", "http://127.0.0.1:23800"
PKI = STATE / "pki"


def start() -> None:
    """Start the control plane and write the kubeconfig of its administrator."""
    PKI.mkdir(parents=True, exist_ok=True)
    if not (PKI / "sa.key").exists():
        run("openssl", "genrsa", "-out", PKI / "sa.key", "2048", stderr=subprocess.DEVNULL)
    spawn(
        "etcd",
        BIN / "etcd",
        f"--data-dir={STATE}/etcd",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={PEERS}",
        f"--initial-advertise-peer-urls={PEERS}",
        f"--initial-cluster=default={PEERS}",
        "--unsafe-no-fsync",
    )
    token = _administrator()
    _start_api_server()
    wait("certificate", (PKI / "apiserver.crt").exists)
    _write_kubeconfig(token)
    wait("API server", lambda: ask("get", "--raw", "/readyz"))
    common = (f"--kubeconfig={KUBECONFIG}", "--leader-elect=false", "--bind-address=127.0.0.1")
    spawn(
        "controller-manager",
        *(BIN / "kube", "controller-manager", *common),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={PKI}/sa.key",
        f"--root-ca-file={PKI}/apiserver.crt",
    )
    spawn("scheduler", BIN / "kube", "scheduler", *common)


def _administrator() -> str:
    """Give the administrator's token, made once."""
    for name in ("token", "tokens.csv"):
        (STATE / name).touch(mode=0o600)
    token = (STATE / "token").read_text() or secrets.token_hex(16)
    (STATE / "token").write_text(token)
    (STATE / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    return token


def _start_api_server() -> None:
    spawn(
        "apiserver",
        *(BIN / "kube", "apiserver"),
        f"--etcd-servers={ETCD}",
        f"--cert-dir={PKI}",
        f"--bind-address={GATEWAY}",
        f"--advertise-address={GATEWAY}",
        "--secure-port=6443",
        f"--service-account-key-file={PKI}/sa.key",
        f"--service-account-signing-key-file={PKI}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=Node,RBAC",
        f"--token-auth-file={STATE}/tokens.csv",
        "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",  # the nodes' names resolve nowhere
    )


def _write_kubeconfig(token: str) -> None:
    # The API server signs its own certificate, so that certificate is also the authority.
    authority = base64.b64encode((PKI / "apiserver.crt").read_bytes()).decode()
    server = {"server": f"https://{GATEWAY}:6443", "certificate-authority-data": authority}
    KUBECONFIG.touch(mode=0o600)
    KUBECONFIG.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "snoopy",
                "clusters": [{"name": "snoopy", "cluster": server}],
                "users": [{"name": "admin", "user": {"token": token}}],
                "contexts": [{"name": "snoopy", "context": {"cluster": "snoopy", "user": "admin"}}],
            }
        )
    )

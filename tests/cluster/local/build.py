"""Debian packages and pinned Go modules become the cluster's programs, each built once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from machine import BIN, HERE, HOME, run, say

KUBERNETES, ARGO = "v1.34.4", "v4.0.5"
ARGO_MODULE = "github.com/argoproj/argo-workflows/v4"
PACKAGES = {
    "/usr/bin/buildah": "buildah",
    "/usr/bin/containerd": "containerd",
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/bin/openssl": "openssl",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "/usr/sbin/conntrack": "conntrack",
    "/usr/sbin/ip": "iproute2",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/nft": "nftables",
    "/usr/sbin/runc": "runc",
}
PLAIN = ("build", "-trimpath", "-ldflags")
SMALL = "-s -w"  # no symbol table, no debug information


def install_packages() -> None:
    """Install the Debian packages that are missing."""
    missing = [package for file, package in PACKAGES.items() if not Path(file).exists()]
    if missing:
        say("installing", *missing)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", *missing, env=quiet, stdout=subprocess.DEVNULL)


def build() -> None:
    """Build the programs that are missing in the cluster's bin/."""
    BIN.mkdir(parents=True, exist_ok=True)
    version = "k8s.io/component-base/version"
    kubernetes = f"{SMALL} -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=34"
    rendered_for = "helm.sh/helm/v3/pkg/chartutil.k8sVersion"  # by `helm template`, which asks no cluster
    helm = f"{SMALL} -X {rendered_for}Major=1 -X {rendered_for}Minor=34"
    for program, module, package, flags in (
        ("kube", "kube", ".", kubernetes),
        ("kubectl", "kube", "k8s.io/kubernetes/cmd/kubectl", kubernetes),
        ("etcd", "etcd", "go.etcd.io/etcd/server/v3", SMALL),
        ("coredns", "dns", "github.com/coredns/coredns", SMALL),
        ("minio", "minio", "github.com/minio/minio", SMALL),
        ("helm", "helm", "helm.sh/helm/v3/cmd/helm", helm),
        ("pause", "pause", ".", SMALL),
    ):
        if _wanted(program):
            go(HERE / "go" / module, *PLAIN, flags, "-tags=providerless", "-o", BIN / program, package)
    if _wanted("argo", "argoexec", "workflow-controller"):
        _build_argo()


def _wanted(*programs: str) -> bool:
    missing = [program for program in programs if not (BIN / program).exists()]
    if missing:
        say("building", *missing)
    return bool(missing)


def go(module: Path, *arguments: str | Path, **options: int) -> str:
    """Run the go command in a module's folder and give its standard output."""
    if not shutil.which("go"):
        sys.exit("the cluster's programs are compiled here: install Go 1.26 or later and put it on PATH")
    settings = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    return run("go", *arguments, cwd=module, env=settings, stdout=subprocess.PIPE, **options).stdout


def _build_argo() -> None:
    """Build Argo's programs: a module archive holds no symbolic links and no built UI, so put both back."""
    work = HOME / "argo"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(HERE / "go/argo", work)
    go(work, "mod", "vendor", "-e", stderr=subprocess.DEVNULL)
    vendored = work / "vendor" / ARGO_MODULE
    (vendored / "workflow/executor/osspecific/signal_linux.go").symlink_to("signal_darwin.go")
    (vendored / "ui/dist/app").mkdir(parents=True)
    (vendored / "ui/dist/app/index.html").write_text('<!doctype html><base href="/"><title>Argo Server</title>')
    packages = (f"{ARGO_MODULE}/cmd/{name}" for name in ("argo", "argoexec", "workflow-controller"))
    go(work, *PLAIN, f"{SMALL} -X {ARGO_MODULE}.version={ARGO}", "-o", f"{BIN}/", *packages)
    shutil.rmtree(work)


def argo_manifests() -> Path:
    """Give the folder of Argo's own manifests, of the very version that is built."""
    module = json.loads(go(HERE / "go/argo", "mod", "download", "-json", f"{ARGO_MODULE}@{ARGO}"))
    return Path(module["Dir"]) / "manifests"

"""Container images without a registry: Debian from its packages, ours on top of it, loaded on every node."""

from collections.abc import Iterator
from pathlib import Path

import processes
from build import ARGO
from machine import BIN, IMAGES, NODES, answer, run, say

DEBIAN = "docker.io/library/debian:trixie-slim"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UNNEEDED = ("doc/*", "groff/*", "info/*", "lintian/*", "locale/*", "man/*")  # as the published slim image
SYSTEM = (  # what Kubernetes, Argo and our MinIO call them; Argo's pods say runAsNonRoot
    ("localhost/snoopy/pause:1", "pause", 0),
    ("docker.io/coredns/coredns:1.12.4", "coredns", 0),
    ("quay.io/minio/minio:latest", "minio", 0),
    (f"quay.io/argoproj/argoexec:{ARGO}", "argoexec", 0),
    (f"quay.io/argoproj/argocli:{ARGO}", "argo", 8737),
    (f"quay.io/argoproj/workflow-controller:{ARGO}", "workflow-controller", 8737),
)


def image(tag: str, directory: str, target: str, file: str) -> None:
    """Build one target of a Dockerfile and load it on every node."""
    _base_image()
    machine = ("/etc/pip.conf", "/etc/uv/uv.toml", "/etc/ssl/certs")  # how this machine reaches packages
    mounts = [f"--volume={path}:{path}:ro" for path in machine if Path(path).exists()]
    which = [f"--target={target}"] if target else []
    how = ("--quiet", "--isolation=chroot", "--network=host", "--pull=never", "--layers")
    run("buildah", "build", *how, *mounts, *which, f"--file={file}", f"--tag={tag}", directory)
    archive = _save(tag, IMAGES / "built.tar")
    say(f"{tag}: {archive.stat().st_size / 1e6:.0f} MB unpacked")
    load(archive)
    archive.unlink()


def load(*archives: Path) -> None:
    """Import image archives on every node."""
    for name in NODES:
        init = processes.first_child(processes.running()[name])
        inside = ("nsenter", f"--target={init}", "--mount", "--pid", "ctr", "--namespace=k8s.io")
        for archive in archives:
            command = (*inside, "images", "import", archive.resolve())
            # containerd may collect a layer that is being imported as garbage: the second time it stays.
            if answer(*command) is None:
                run(*command, capture_output=True)


def system_images() -> Iterator[Path]:
    """Give archives of the images that the cluster itself needs; each is a program of ours on Debian."""
    for tag, program, user in SYSTEM:
        archive = IMAGES / f"{program}.tar"
        if not archive.exists():
            _base_image()
            container = run("buildah", "from", "--pull=never", DEBIAN, capture_output=True).stdout.strip()
            installed = f"/usr/local/bin/{program}"
            run("buildah", "copy", "-q", container, BIN / program, installed, capture_output=True)
            run("buildah", "config", "--cmd=", f"--user={user}", f'--entrypoint=["{program}"]', container)
            run("buildah", "commit", "-q", "--rm", container, tag, capture_output=True)
            _save(tag, archive)
        yield archive


def _save(tag: str, archive: Path) -> Path:
    IMAGES.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    run("buildah", "push", "-q", tag, f"docker-archive:{archive}:{tag}")
    return archive


def _base_image() -> None:
    if answer("buildah", "inspect", "--type=image", DEBIAN):
        return
    rootfs = IMAGES / "debian.tar"
    IMAGES.mkdir(parents=True, exist_ok=True)
    slim = [f"--dpkgopt=path-exclude=/usr/share/{what}" for what in UNNEEDED]
    slim.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    run("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", *slim, "trixie", rootfs)
    container = run("buildah", "from", "scratch", capture_output=True).stdout.strip()
    run("buildah", "add", "-q", container, rootfs, "/", capture_output=True)
    run("buildah", "config", "--cmd=bash", f"--env=PATH={PATH}", container)
    run("buildah", "commit", "-q", "--rm", container, DEBIAN, capture_output=True)
    rootfs.unlink()

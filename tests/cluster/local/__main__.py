"""A real two-node Kubernetes with Argo Workflows on one Linux machine, from Debian packages and Go modules.

It needs root and Go, no container engine and no image registry. The first `up` compiles for twelve minutes;
what it built stays in $SNOOPY_CLUSTER_HOME (/var/lib/snoopy-cluster), so later ones take about a minute.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import control_plane
import images
import network
import nodes
import processes
from build import build, install_packages
from install import install
from machine import BIN, KUBECONFIG, LOGS, NODES, STATE, kubectl, say

SERVERS = {"etcd", "apiserver", "controller-manager", "scheduler", *NODES}


def up() -> None:
    """Build what is missing, start what does not run, install CoreDNS and Argo."""
    install_packages()
    build()
    if processes.running().keys() >= SERVERS:
        say("already up")
    else:
        down(wipe=False)  # a crash or a reboot may have left a part of it
        LOGS.mkdir(parents=True, exist_ok=True)
        network.connect()
        control_plane.start()
        for name, number in NODES.items():
            nodes.start(name, number)
        processes.wait("nodes", nodes.ready_since(time.time()))
    marker = STATE / "images-loaded"
    if not marker.exists():
        images.load(*images.system_images())
        marker.touch()
    install()


def down(*, wipe: bool) -> None:
    """Stop everything and leave no process, namespace, bridge or cgroup; `wipe` also forgets the state."""
    processes.stop()
    network.disconnect()
    nodes.remove_cgroups()
    if wipe:
        shutil.rmtree(STATE, ignore_errors=True)
        KUBECONFIG.unlink(missing_ok=True)


def status() -> None:
    """Show nodes, pods and addresses."""
    kubectl("get", "nodes,pods", "-A", "-o", "wide", stdout=None)
    say(f"\nKUBECONFIG {KUBECONFIG}\nprograms   {BIN}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="build what is missing, start, install")
    commands.add_parser("down", help="stop everything").add_argument(
        "--wipe", action="store_true", help="also forget the state, never the built programs"
    )
    image = commands.add_parser("image", help="build an image with buildah and load it on every node")
    image.add_argument("tag", metavar="TAG")
    image.add_argument("directory", metavar="DIR")
    image.add_argument("--target", default="", help="a stage of the Dockerfile; the last one if not given")
    image.add_argument("--file", help="the Dockerfile; DIR/Dockerfile if not given")
    commands.add_parser("env", help="shell lines to eval: KUBECONFIG, PATH with kubectl and argo")
    commands.add_parser("status", help="nodes, pods, addresses")
    return parser.parse_args()


def main() -> None:
    """Do what the command line says, or say which command failed."""
    try:
        do(arguments())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)}: exit code {error.returncode}: {(error.stderr or '').strip()}".strip(": "))


def do(asked: argparse.Namespace) -> None:
    """Do what was asked."""
    if asked.command == "env":
        say(f"export KUBECONFIG={KUBECONFIG} PATH={BIN}:$PATH")
        return
    if os.geteuid():
        sys.exit("the cluster makes network namespaces and mounts: run it as root")
    if asked.command in {"image", "status"} and not processes.running().keys() >= SERVERS:
        sys.exit("the cluster does not run: start it with up")
    match asked.command:
        case "up":
            up()
        case "down":
            down(wipe=asked.wipe)
        case "image":
            file = asked.file or str(Path(asked.directory) / "Dockerfile")
            images.image(asked.tag, asked.directory, asked.target, file)
        case "status":
            status()


if __name__ == "__main__":
    main()

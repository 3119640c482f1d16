"""The wires: every node is a network namespace on one bridge, which nothing leaves."""

from machine import GATEWAY, NODES, answer, run

BRIDGE = "snoopy0"


def connect() -> None:
    """Create the bridge and the nodes' namespaces, and route every node's pods through its node."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    for name, number in NODES.items():
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"snoopy{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"snoopy{number}", "master", BRIDGE, "up")
        inside = ("ip", "-netns", name)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "address", "add", f"172.30.0.{number}/24", "dev", "eth0")
        run(*inside, "route", "add", "default", "via", GATEWAY)
        for other in NODES.values():
            if other != number:
                run(*inside, "route", "add", f"10.244.{other}.0/24", "via", f"172.30.0.{other}")
        run("ip", "netns", "exec", name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def disconnect() -> None:
    """Remove what is there of it."""
    for name, number in NODES.items():
        answer("ip", "link", "delete", f"snoopy{number}")
        answer("ip", "netns", "delete", name)
    answer("ip", "link", "delete", BRIDGE)

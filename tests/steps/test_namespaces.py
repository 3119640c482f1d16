"""Finding a pod's network namespace in a /proc: every runtime's cgroups, and the cases that have none."""

from pathlib import Path

import pytest

from steps.namespaces import HostNetworkError, NoProcessError, of_container, of_pod

UID = "8d9c1f2e-1111-4222-8333-444455556666"
CONTAINER = "3f" * 32
CGROUPS = {
    "containerd, cgroupfs, v2": f"0::/kubepods/burstable/pod{UID}/{CONTAINER}",
    "containerd, systemd, v2": (
        f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{CONTAINER}.scope"
    ),
    "CRI-O, systemd, v1": (
        f"12:pids:/kubepods.slice/kubepods-besteffort-pod{UID.replace('-', '_')}.slice/crio-{CONTAINER}.scope\n0::/"
    ),
    "seen from another cgroup namespace": f"0::/../../pod{UID}/{CONTAINER}",
}


def process(proc: Path, pid: int, cgroup: str, network: str) -> None:
    (proc / str(pid) / "ns").mkdir(parents=True)
    (proc / str(pid) / "cgroup").write_text(cgroup + "\n")
    (proc / str(pid) / "ns/net").symlink_to(f"net:[{network}]")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    process(tmp_path, 1, "0::/init.scope", "1")
    process(tmp_path, 950, "0::/kubepods/pod11111111-1111/ff", "9")
    (tmp_path / "self").mkdir()
    (tmp_path / "960").mkdir()  # a process that has just ended
    return tmp_path


@pytest.mark.parametrize("cgroup", CGROUPS.values(), ids=CGROUPS)
def test_every_runtime_and_cgroup_driver(proc: Path, cgroup: str) -> None:
    process(proc, 1200, cgroup, "7")
    process(proc, 1100, cgroup, "7")
    found = of_pod(UID, "shop/web", proc)
    assert found.path == proc / "1100/ns/net"
    assert of_container(CONTAINER[:12], proc).path == found.path


def test_a_pod_is_alive_while_any_of_its_processes_is(proc: Path) -> None:
    process(proc, 1100, CGROUPS["containerd, cgroupfs, v2"], "7")
    process(proc, 1200, CGROUPS["containerd, cgroupfs, v2"], "7")
    found = of_pod(UID, "shop/web", proc)
    (proc / "1100/cgroup").unlink()
    assert found.alive()
    (proc / "1200/cgroup").write_text("0::/kubepods/pod11111111-1111/ff\n")  # its number was given to another
    assert not found.alive()


def test_a_pod_without_a_process_here(proc: Path) -> None:
    with pytest.raises(NoProcessError, match=f"pod shop/web .uid {UID}. has no process on this node") as error:
        of_pod(UID, "shop/web", proc)
    assert error.value.exit_code == 4


def test_a_pod_on_its_nodes_network(proc: Path) -> None:
    process(proc, 1100, CGROUPS["containerd, cgroupfs, v2"], "1")
    with pytest.raises(HostNetworkError, match="pod shop/web uses its node's network") as error:
        of_pod(UID, "shop/web", proc)
    assert error.value.exit_code == 5


@pytest.mark.parametrize("container", ["", "3f3f3", "nothex-nothex", "abcdef012345"])
def test_a_container_that_is_not_here(proc: Path, container: str) -> None:
    process(proc, 1100, CGROUPS["containerd, cgroupfs, v2"], "7")
    with pytest.raises(NoProcessError, match="six or more hexadecimal digits"):
        of_container(container, proc)


def test_a_runtimes_helper_in_the_pods_cgroup_is_not_the_pod(proc: Path) -> None:
    process(proc, 1100, f"0::/kubepods/pod{UID}/conmon", "1")  # CRI-O with conmon_cgroup = "pod"
    process(proc, 1200, CGROUPS["containerd, cgroupfs, v2"], "7")
    assert of_pod(UID, "shop/web", proc).path == proc / "1200/ns/net"


def test_a_process_that_is_just_ending_has_no_network(proc: Path) -> None:
    process(proc, 1100, CGROUPS["containerd, cgroupfs, v2"], "7")
    (proc / "1100/ns/net").unlink()
    with pytest.raises(NoProcessError):
        of_pod(UID, "shop/web", proc)

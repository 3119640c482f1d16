"""podtracer's command line, on a real network namespace: output, timers, signals and exit codes."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

PODTRACER = [sys.executable, "-m", "steps.podtracer"]
UID = str(uuid.uuid4())


def podtracer(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PODTRACER, *words], capture_output=True, text=True, check=False, timeout=30, **options)


@pytest.fixture
def pod(hosts: Any) -> Any:
    """A process in the server's namespace, in a cgroup named as the kubelet names a pod's."""
    group = next(path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if path.exists()) / f"pod{UID}"
    group.mkdir()
    client, server = hosts
    process = server.start("sleep", "60")
    (group / "cgroup.procs").write_text(str(process.pid))
    yield client, server
    process.kill()
    process.wait()
    while (group / "cgroup.procs").read_text():
        time.sleep(0.01)
    group.rmdir()


def test_tcpdump_runs_in_the_pods_network_and_its_output_goes_to_a_file(pod: Any, tmp_path: Path) -> None:
    client, server = pod
    words = ["run", "tcpdump", "-a", "-i eth0 -c 4 -w - icmp", "--pod", "web", "-n", "shop", "--uid", UID]
    with subprocess.Popen([*PODTRACER, *words, "-f", tmp_path / "out.pcap"], stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr
        assert b"listening on eth0" in tracer.stderr.readline()
        client.run("ping", "-q", "-c", "2", "-i", "0.02", server.address)
        tracer.stderr.read()
    assert tracer.returncode == 0
    shown = subprocess.run(["tcpdump", "-nr", tmp_path / "out.pcap"], capture_output=True, text=True, check=True).stdout
    assert shown.count("ICMP echo") == 4


@pytest.mark.usefixtures("pod")
def test_a_timer_ends_the_tool_and_counts_as_well_ended() -> None:
    begun = time.monotonic()
    done = podtracer("run", "tcpdump", "-a", "-i eth0 -nn", "--pod", "web", "--uid", UID, "-t", "1s")
    assert done.returncode == 0
    assert 1 <= time.monotonic() - begun < 10
    assert "packets captured" in done.stderr


@pytest.mark.usefixtures("pod")
def test_a_signal_reaches_the_tool() -> None:
    words = ["run", "tcpdump", "-a", "-i eth0", "--pod", "web", "--uid", UID]
    with subprocess.Popen([*PODTRACER, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE) as tracer:
        assert tracer.stderr
        tracer.stderr.readline()
        tracer.send_signal(signal.SIGTERM)
        assert b"packets captured" in tracer.stderr.read()
    assert tracer.returncode == 0


@pytest.mark.usefixtures("pod")
def test_the_tools_exit_code_is_podtracers() -> None:
    done = podtracer("run", "tcpdump", "-a", "-i eth9", "--pod", "web", "--uid", UID)
    assert done.returncode == 1
    assert "eth9: No such device exists" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["-a", "-z id", "--uid", UID], 2, "podtracer: arguments: '-z id': option -z not recognized"),
        (["--uid", "99999999-0000-4000-8000-000000000000"], 4, "podtracer: pod default/web (uid 99999999"),
        (["--uid", UID, "-f", "/nowhere/out.pcap"], 2, "podtracer: /nowhere/out.pcap: No such file or directory"),
        (["--uid", UID, "-t", "5x"], 2, "'5x': a duration such as 30s"),
    ],
)
@pytest.mark.usefixtures("pod")
def test_bad_input_is_a_sentence_and_an_exit_code(words: list[str], code: int, sentence: str) -> None:
    done = podtracer("run", "tcpdump", "--pod", "web", *words)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_api_the_uid_must_be_given(tmp_path: Path) -> None:
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    done = podtracer("run", "tcpdump", "--pod", "web", env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("podtracer: no Kubernetes cluster is configured")

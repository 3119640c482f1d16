"""podtracer's command line, on a real network namespace: every tool, outputs, timers, signals and exit codes."""

import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.steps.serving import Server
from tests.store import Store
from tests.waiting import eventually

PODTRACER = [sys.executable, "-m", "steps.podtracer"]
UID = str(uuid.uuid4())
POD = ("--pod", "web", "-n", "shop", "--uid", UID)
CLIENT, SERVER = "10.77.0.1", "10.77.0.2"


def podtracer(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PODTRACER, *words], capture_output=True, text=True, check=False, timeout=60, **options)


def start(tool: str, arguments: str, *words: Any, **options: Any) -> subprocess.Popen[bytes]:
    command = [*PODTRACER, "run", tool, "-a", arguments, *POD, *words]
    return subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})


def uploading(store: Store) -> dict[str, str]:
    return {**os.environ, "SNOOPY_UPLOAD": store.policy}


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


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("ping", f"-c 2 -i 0.05 {CLIENT}", "2 packets transmitted, 2 received, 0% packet loss"),
        ("traceroute", f"-n -q 1 {CLIENT}", rf"\n 1  {CLIENT}  [\d.]+ ms"),
        ("ss", "-Htln sport = :5201", r"LISTEN +0 +\d+ +\*:5201"),
        ("ip", "-br address show dev eth0", rf"^eth0@\w+ +UP +{SERVER}/24"),
        ("tc", "-s qdisc show dev eth0", "^qdisc noqueue .*Sent 0 bytes"),
        ("nstat", "-j -z IcmpInEchos", r'\{"kernel":\{"IcmpInEchos":\d+\}\}'),
        ("ethtool", "-i eth0", "^driver: veth"),
        ("iperf3", f"-c {CLIENT} -t 1 -b 1M", r"Connecting to host .* sender\n.* receiver\n"),
        ("iperf", f"-c {CLIENT} -t 1 -b 1M", r"Client connecting to .* Mbits/sec"),
        ("bpftrace", """-q -e 'BEGIN { printf("%d\\n", 6 * 7); exit(); }'""", "^42\n"),
    ],
)
def test_every_tool_runs_in_the_pods_network(pod: Any, tool: str, arguments: str, said: str) -> None:
    client, server = pod
    listeners = [
        server.serve(5201, "iperf3", "-s"),
        client.serve(5201, "iperf3", "-s"),
        client.serve(5001, "iperf", "-s"),
    ]
    try:
        done = podtracer("run", tool, "-a", arguments, *POD)
    finally:
        for listener in listeners:
            listener.kill()
            listener.wait()
    assert done.returncode == 0, done.stderr
    assert re.search(said, done.stdout, re.DOTALL), done.stdout


def test_nstat_counts_from_the_beginning_and_leaves_no_history(pod: Any, tmp_path: Path) -> None:
    client, server = pod
    client.run("ping", "-q", "-c", "3", "-i", "0.02", server.address)
    environment = {**os.environ, "NSTAT_HISTORY": str(tmp_path / "history")}
    for _ in range(2):
        done = podtracer("run", "nstat", "-a", "IcmpInEchos", *POD, env=environment)
        assert re.search(r"IcmpInEchos +3 ", done.stdout)
    assert not (tmp_path / "history").exists()


@pytest.mark.parametrize(("to", "words"), [("-w -", ("-f", "out.pcap")), ("-w out.pcap", ())])
def test_tcpdump_runs_in_the_pods_network_and_its_output_goes_to_a_file(
    pod: Any, tmp_path: Path, to: str, words: tuple[str, ...]
) -> None:
    client, server = pod
    where = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(Path.cwd())}}
    with start("tcpdump", f"-i eth0 -c 4 {to} icmp", *words, **where) as tracer:
        assert tracer.stderr
        assert b"listening on eth0" in tracer.stderr.readline()
        client.run("ping", "-q", "-c", "2", "-i", "0.02", server.address)
        tracer.stderr.read()
    assert tracer.returncode == 0
    shown = subprocess.run(["tcpdump", "-nr", tmp_path / "out.pcap"], capture_output=True, text=True, check=True).stdout
    assert shown.count("ICMP echo") == 4


def test_one_file_is_named_once() -> None:
    refused = podtracer("run", "tcpdump", "-a", "-w a.pcap", *POD, "-f", "b.pcap")
    assert (refused.returncode, refused.stderr) == (
        2,
        "podtracer: file: b.pcap: -w of the arguments already names one, a.pcap\n",
    )


@pytest.mark.parametrize("option", ["-f", "-o", "--file", "--stdoutFile"])
@pytest.mark.usefixtures("pod")
def test_what_a_tool_says_is_everywhere_at_once_while_it_runs(tmp_path: Path, store: Store, option: str) -> None:
    words = (option, tmp_path / "out.txt", "-s", "--upload", "pcaps/x")
    with start("ping", f"-n -i 0.2 {CLIENT}", *words, "-t", "20s", env=uploading(store)) as tracer:
        assert tracer.stdout
        lines = [tracer.stdout.readline() for _ in range(3)]
        assert b"icmp_seq=2" in lines[2]
        eventually("the file has them", lambda: (tmp_path / "out.txt").read_bytes().startswith(b"".join(lines)))
        assert tracer.poll() is None
        tracer.send_signal(signal.SIGINT)
        whole = b"".join([*lines, tracer.stdout.read()])
    assert tracer.returncode == 0
    assert b"packets transmitted" in whole
    assert (tmp_path / "out.txt").read_bytes() == whole
    assert store.objects == {"pcaps/x/000001.txt": whole}


@pytest.mark.usefixtures("pod")
def test_a_data_endpoint_gets_it_too(tmp_path: Path) -> None:
    with Server(tmp_path) as endpoint:
        port = ("-p", str(endpoint.port))
        done = podtracer("run", "ping", "-a", f"-c 3 -i 0.1 {CLIENT}", *POD, "-d", "127.0.0.1", *port, "-s")
        assert endpoint.stop() == 0
    assert done.returncode == 0, done.stderr
    (folder,) = endpoint.folders("shop_web")
    assert "3 packets transmitted" in done.stdout
    assert "".join(path.read_text() for path in sorted(folder.glob("*.txt"))) == done.stdout


@pytest.mark.usefixtures("pod")
def test_an_endpoint_that_hangs_does_not_hold_up_the_file(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    with Server(tmp_path) as endpoint:
        words = ("-d", "127.0.0.1", "-p", str(endpoint.port), "-f", out, "-t", "60s")
        with start("ping", f"-i 0.1 {CLIENT}", *words) as tracer:
            eventually("both have something", lambda: "began" in endpoint.log and out.stat().st_size)
            endpoint.process.send_signal(signal.SIGSTOP)
            before = out.stat().st_size
            eventually("the file goes on", lambda: out.stat().st_size > before + 1000, seconds=15)
            endpoint.process.send_signal(signal.SIGCONT)
            tracer.terminate()
            tracer.wait(30)
        assert endpoint.stop() == 0
    (folder,) = endpoint.folders("shop_web")
    assert "".join(path.read_text() for path in sorted(folder.glob("*.txt"))) == out.read_text()


@pytest.mark.usefixtures("pod")
def test_a_file_is_emptied_only_when_all_else_can_go_on(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("precious")
    done = podtracer("run", "ss", *POD, "-f", str(tmp_path / "out.txt"), "-d", "127.0.0.1", "-p", "1")
    assert (done.returncode, done.stderr) == (
        7,
        "podtracer: the data endpoint 127.0.0.1:1 cannot be reached: Connection refused\n",
    )
    assert (tmp_path / "out.txt").read_text() == "precious"


@pytest.mark.usefixtures("pod")
def test_nohup_is_heeded(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    command = ["nohup", *PODTRACER, "run", "ping", "-a", f"-i 0.1 {CLIENT}", *POD, "-f", out, "-t", "60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tracer:
        eventually("it runs", lambda: out.exists() and out.stat().st_size)
        tracer.send_signal(signal.SIGHUP)
        before = out.stat().st_size
        eventually("it runs on", lambda: out.stat().st_size > before + 200)
        tracer.terminate()
    assert tracer.returncode == 128 + signal.SIGTERM


@pytest.mark.usefixtures("pod")
def test_tcpdumps_text_is_live_too(hosts: Any) -> None:
    client, server = hosts
    with start("tcpdump", "-n -i eth0 icmp", "-t", "60s") as tracer:
        assert tracer.stderr
        assert tracer.stdout
        assert b"verbose" in tracer.stderr.readline()
        assert b"listening" in tracer.stderr.readline()
        client.run("ping", "-q", "-c", "1", server.address)
        assert b"ICMP echo request" in tracer.stdout.readline()
        tracer.terminate()


@pytest.mark.usefixtures("pod")
def test_sockets_that_close_are_shown_when_they_do(hosts: Any) -> None:
    client, server = hosts
    with start("ss", "-HntE", "-t", "30s") as tracer, server.serve(5201, "iperf3", "-s") as listener:
        assert tracer.stdout
        while not select.select([tracer.stdout], [], [], 0.3)[0]:
            client.run("iperf3", "-c", server.address, "-n", "1K")
        assert b":5201" in tracer.stdout.readline()
        tracer.terminate()
        listener.terminate()


def test_packets_are_uploaded_as_captures_of_their_own_while_the_tool_runs(pod: Any, store: Store) -> None:
    client, server = pod
    words = ("--upload", "pcaps/ns/run/shop_web_0/")
    with (
        start("tcpdump", "-ni eth0 -B 65536 -w - tcp", *words, env=uploading(store)) as tracer,
        server.serve(5201, "iperf3", "-s", "-1") as listener,
    ):
        assert tracer.stderr
        assert b"listening on eth0" in tracer.stderr.readline()
        client.run("iperf3", "-c", server.address, "-n", "20M", "-b", "400M")
        listener.wait()
        eventually("two pieces are stored", lambda: len(store.objects) >= 2)
        assert tracer.poll() is None
        time.sleep(1.2)
        tracer.terminate()
        counts = tracer.stderr.read().decode()
    assert tracer.returncode == 0
    assert list(store.objects) == [f"pcaps/ns/run/shop_web_0/{n:06d}.pcap" for n in range(1, len(store.objects) + 1)]
    read = 0
    for data in store.objects.values():
        done = subprocess.run(["tcpdump", "-nr-", "--count"], input=data, capture_output=True, check=True)
        read += int(done.stdout.split()[0])
    assert f"{read} packets captured" in counts


def test_whoever_reads_slowly_slows_the_reading_and_gets_everything(pod: Any) -> None:
    client, server = pod
    with start("tcpdump", "-i eth0 -B 131072 -w - tcp") as tracer, server.serve(5201, "iperf3", "-s", "-1") as listener:
        assert tracer.stderr
        assert tracer.stdout
        tracer.stderr.readline()
        client.run("iperf3", "-c", server.address, "-n", "40M", "-b", "400M")
        listener.wait()
        resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{tracer.pid}/status").read_text())
        assert resident
        threading.Timer(3, tracer.terminate).start()
        data = tracer.stdout.read()
        counts = tracer.stderr.read().decode()
    assert int(resident[1]) < 70_000
    assert len(data) > 40_000_000
    done = subprocess.run(["tcpdump", "-nr-", "--count"], input=data, capture_output=True, check=True)
    assert f"{int(done.stdout.split()[0])} packets captured" in counts


@pytest.mark.usefixtures("pod")
def test_an_output_that_fails_is_left_out_and_the_others_get_everything(tmp_path: Path) -> None:
    words = ("-f", tmp_path / "out.txt", "-s")
    with start("ping", f"-n -c 5 -i 0.2 {CLIENT}", *words) as tracer:
        assert tracer.stdout
        assert tracer.stderr
        tracer.stdout.readline()
        tracer.stdout.close()
        assert tracer.stderr.read() == b"podtracer: standard output: Broken pipe\n"
    assert tracer.returncode == 7
    assert b"5 packets transmitted, 5 received" in (tmp_path / "out.txt").read_bytes()
    with start("ping", f"-n -i 0.2 {CLIENT}") as tracer:  # without any output left it is ended
        assert tracer.stdout
        tracer.stdout.readline()
        tracer.stdout.close()
        assert tracer.wait(10) == 7
    full = podtracer("run", "ip", "-a", "address", *POD, "-f", "/dev/full")
    assert (full.returncode, full.stderr) == (7, "podtracer: /dev/full: No space left on device\n")


@pytest.mark.usefixtures("pod")
def test_a_timer_ends_the_tool_and_counts_as_well_ended() -> None:
    begun = time.monotonic()
    done = podtracer("run", "tcpdump", "-a", "-i eth0 -nn", *POD, "-t", "1s")
    assert done.returncode == 0
    assert 1 <= time.monotonic() - begun < 10
    assert "packets captured" in done.stderr
    done = podtracer("run", "ping", "-a", "-n 10.77.0.99", *POD, "-t", "1500ms")
    assert done.returncode == 0
    assert "0 received" in done.stdout


@pytest.mark.usefixtures("pod")
def test_an_output_that_nobody_reads_outlives_neither_a_signal_nor_the_timer() -> None:
    def stuck(arguments: str, *words: str) -> tuple[int, subprocess.Popen[bytes]]:
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        tracer = start("ping", f"-n -i 0.01 {arguments} {CLIENT}", *words, stdout=write)
        os.close(write)
        return read, tracer

    both = [stuck(""), stuck("-c 100", "-t", "2s")]  # one that waits for its reader, and one that is dead by then
    waiting = lambda read: struct.unpack("i", fcntl.ioctl(read, termios.FIONREAD, b"\0" * 4))[0]  # noqa: E731
    eventually("both have begun to write", lambda: all(waiting(read) for read, _ in both))
    both[0][1].terminate()
    for read, tracer in both:
        assert tracer.stderr
        assert tracer.wait(30) == 7
        assert tracer.stderr.read() == b"podtracer: standard output: nobody reads it\n"
        tracer.stderr.close()
        os.close(read)


EARLY = """
import os, signal, subprocess
from steps import podtracer
start = subprocess.Popen
def started(*words, **options):
    process = start(*words, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    return process
subprocess.Popen = started
podtracer.main()
"""


@pytest.mark.usefixtures("pod")
def test_a_signal_while_the_tool_starts_reaches_it() -> None:
    words = [sys.executable, "-c", EARLY, "run", "ping", "-a", CLIENT, *POD]
    assert subprocess.run(words, stdout=subprocess.DEVNULL, check=False, timeout=20).returncode == 128 + signal.SIGTERM


def test_where_certificates_are_is_said() -> None:
    said = " ".join(podtracer("run", "--help").stdout.split())
    assert "ca.crt, tls.crt and tls.key of the directory $SNOOPY_ENDPOINT_TLS (or /etc/snoopy/endpoint-tls)." in said


@pytest.mark.usefixtures("pod")
def test_signals_reach_the_tool() -> None:
    with start("tcpdump", "-i eth0") as tracer:
        assert tracer.stderr
        tracer.stderr.readline()
        tracer.send_signal(signal.SIGTERM)
        assert b"packets captured" in tracer.stderr.read()
    assert tracer.returncode == 0
    with start("ping", f"-n -i 0.2 {CLIENT}") as tracer:
        assert tracer.stderr
        assert tracer.stdout
        tracer.stdout.readline()
        tracer.stdout.readline()
        tracer.send_signal(signal.SIGQUIT)
        assert re.match(rb"\d/\d packets, 0% loss", tracer.stderr.readline().strip(b"\r\n"))
        tracer.send_signal(signal.SIGTERM)
    assert tracer.returncode == 128 + signal.SIGTERM


@pytest.mark.usefixtures("pod")
def test_the_tools_exit_code_is_podtracers() -> None:
    done = podtracer("run", "tcpdump", "-a", "-i eth9", *POD)
    assert done.returncode == 1
    assert "eth9: No such device exists" in done.stderr
    assert podtracer("run", "ethtool", "-a", "-i eth9", *POD).returncode == 71


@pytest.mark.usefixtures("pod")
def test_packets_are_not_written_to_a_terminal() -> None:
    ours, terminals = os.openpty()
    try:
        with start("tcpdump", "-i eth0 -w -", stdout=terminals) as tracer:
            assert tracer.stderr
            assert tracer.stderr.read().startswith(b"podtracer: standard output is a terminal")
        with start("ip", "-V", stdout=terminals):
            assert b"iproute2" in os.read(ours, 1000)
    finally:
        os.close(ours)
        os.close(terminals)
    assert tracer.returncode == 2


@pytest.mark.usefixtures("pod")
def test_a_tool_that_is_not_there() -> None:
    done = podtracer("run", "bpftrace", *POD, env={**os.environ, "PATH": "/nowhere"})
    assert (done.returncode, done.stderr) == (127, "podtracer: bpftrace is not installed here\n")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ["-a", "-z id", "--uid", UID],
            2,
            "podtracer: arguments: '-z id': option -z is not allowed; tcpdump may only be told",
        ),
        (["--uid", "99999999-0000-4000-8000-000000000000"], 4, "podtracer: pod default/web (uid 99999999"),
        (["--uid", UID, "-f", "/nowhere/out.pcap"], 2, "podtracer: /nowhere/out.pcap: No such file or directory"),
        (["--uid", UID[:8]], 2, f"podtracer: uid: {UID[:8]!r}: a pod's whole UID is needed"),
        (["--uid", UID, "-t", "300000d"], 2, "at most 365d is allowed"),
        (["--uid", UID, "-t", "5x"], 2, "'5x': a duration such as 30s"),
        (["--uid", UID, "-p", "51001"], 2, "podtracer: port: 51001: it is a data endpoint's, which -d names"),
        (["--uid", UID, "-d", "a b"], 2, "podtracer: destination: 'a b': a host's name or address is needed"),
        (["--uid", UID, "-d", "e", "-p", "0"], 2, "0 is not in the range 1<=x<=65535"),
        (["--uid", UID, "--upload", "x"], 2, "podtracer: upload: 'x': $SNOOPY_UPLOAD holds no presigned policy"),
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
    assert done.stderr.startswith(f"podtracer: no Kubernetes cluster is configured in {tmp_path / 'none'}: ")


def test_a_kubeconfig_says_who_is_asked(tmp_path: Path) -> None:
    server = {"name": "here", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
    users = [{"name": "me", "user": {}}]
    config = {"clusters": [server], "contexts": [context], "users": users, "current-context": "here"}
    (tmp_path / "config").write_text(json.dumps(config))
    done = podtracer("run", "ss", "--pod", "web", "-n", "shop", "-k", str(tmp_path / "config"))
    assert done.returncode == 1
    assert done.stderr.startswith("podtracer: cannot get pod shop/web: the Kubernetes API cannot be reached")


def test_the_version() -> None:
    assert re.fullmatch(r"podtracer \d+\.\d+\.\d+\n", podtracer("version").stdout)
    assert podtracer("--version").stdout == podtracer("version").stdout

"""iperf3 in a target's network namespace: its JSON uploaded, and a record beside it."""

import hashlib
import subprocess
import time
from contextlib import suppress

from analysis.iperf import documents
from steps.campaign_input import CampaignInput
from steps.interface import POD_DELETED, now
from steps.namespaces import NetworkNamespace
from steps.plan import CapturedFile, CaptureRecord, Target
from steps.stop import Stop
from steps.toolrun import output, reason_to_end
from steps.tools import IPERF3, command
from steps.uploads import UploadError, Uploads, out_of_time, put_record


def run(  # noqa: PLR0913 - a run has this many independent parts
    target: Target,
    namespace: NetworkNamespace,
    asked: CampaignInput,
    stop: Stop,
    *,
    uploads: Uploads,
    prefix: str,
) -> CaptureRecord:
    """Run iperf3 until it ends, a limit is reached, the pod ends or `stop` is set; give the record, as uploaded.

    Raises:
        UploadError: the record could not be uploaded.

    """
    program, *rest = command(IPERF3, asked.arguments)
    argv = [program, "--json", *rest]
    record = CaptureRecord(
        target=target, interface="", tool="iperf3", arguments=argv[1:], outcome="capturing", listening=now()
    )
    with suppress(UploadError):  # the store may be back when it ends
        put_record(uploads, prefix, record)
    written, cut = bytearray(), ""
    deadline = time.monotonic() + asked.duration

    def reason() -> str:
        nonlocal cut
        cut = reason_to_end(namespace, stop, deadline, asked.bytes - len(written), asked)
        return cut

    with subprocess.Popen(namespace.enter(*argv), stdout=subprocess.PIPE, process_group=0) as process:
        for data in output(process, reason, IPERF3):
            written += data[: asked.bytes - len(written)]
    record.ended, record.exit_code = now(), process.returncode
    # Its exit code does not tell: with --json it is 0 for a refused connection, and 1 for a server that we ended.
    results = list(documents(written.decode(errors="replace")))
    measured = any(result.get("intervals") for result in results)
    error = next((result["error"] for result in results if "error" in result), "it gave no result")
    record.outcome = "captured" if measured else "capture_failed"
    record.reason = cut if measured else f"iperf3 measured nothing: {cut or error}"
    if cut == POD_DELETED:
        record.outcome, record.reason = "pod_deleted", f"{POD_DELETED} while iperf3 ran"
    if written:
        if refusal := _refusal(uploads, prefix + "iperf3.json", bytes(written), stop):
            record.outcome, record.reason = "upload_failed", f"1 of 1 files could not be uploaded: {refusal}"
        digest = hashlib.sha256(written).hexdigest()
        record.files.append(CapturedFile(name="iperf3.json", sha256=digest, bytes=len(written), packets=0))
    put_record(uploads, prefix, record)
    return record


def _refusal(uploads: Uploads, key: str, data: bytes, stop: Stop) -> str:
    """Store an object, and be patient; give why that was in vain, if it was."""
    begun = time.monotonic()
    while True:
        try:
            uploads.put(key, data)
        except UploadError as error:
            if out_of_time(begun, stop):
                return str(error)
            time.sleep(1)
        else:
            return ""

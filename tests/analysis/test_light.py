"""What capture pods and the CLI use of the analysis: without pandas, which neither of them should wait for."""

import subprocess
import sys

import pytest

from analysis.iperf import documents
from analysis.outcomes import CAPTURED, WORST, not_captured, worst


@pytest.mark.parametrize("module", ["captures", "iperf", "outcomes", "timestamps"])
def test_no_pandas(module: str) -> None:
    code = f"import sys; sys.modules['pandas'] = None; import analysis.{module}; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ('{"a": 1}\n{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        ('  {"a": 1} iperf3: interrupt', [{"a": 1}]),
        ('{"a": 1}{"b": ', [{"a": 1}]),
        ("iperf3: error", []),
        ("[1]", []),
    ],
)
def test_documents(text: str, expected: list[dict[str, int]]) -> None:
    assert list(documents(text)) == expected


def test_the_worst_outcome_of_a_target_counts() -> None:
    records = [{"outcome": outcome, "reason": outcome} for outcome in reversed(WORST)]
    assert [worst(records[: n + 1])[0] for n in range(len(records))] == list(reversed(WORST))
    assert worst([])[0] == "missing"
    assert worst([{"outcome": "capturing"}])[0] == worst([{"outcome": "odd"}])[0] == "capture_failed"


def test_not_captured() -> None:
    targets = [{"namespace": "demo", "pod": outcome, "outcome": outcome, "reason": ""} for outcome in WORST]
    targets[0]["reason"] = "it never began"
    assert not_captured({"targets": targets}) == [
        "demo/missing: missing: it never began",
        "demo/upload_failed: upload_failed: no reason given",
        "demo/capture_failed: capture_failed: no reason given",
        "demo/pod_deleted: pod_deleted: no reason given",
    ]
    assert set(WORST) - CAPTURED == {target["outcome"] for target in targets[:4]}

"""The join step: every capture of a campaign and its plan, from the object store to reports and back."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from analysis.analyse import analyse
from analysis.captures import PRODUCTS, REPORT, CaptureError
from analysis.outcomes import not_captured
from analysis.timestamps import rfc3339
from analysis.trend import point
from steps.objects import Bucket, ObjectStoreError, repository_from_environment
from steps.plan import INCOMPLETE, SCRATCH, pcaps_prefix, reports_prefix, trends_prefix


def join(bucket: Bucket, namespace: str, campaign: str, out: Path) -> dict[str, Any]:
    """Analyse what a campaign left in the object store; put the reports into `out` and beside its plan.

    A campaign that continues a trend adds its point to it, after its report.

    Raises:
        ObjectStoreError: the store refused or cannot be reached.
        CaptureError: there is nothing to analyse.

    """
    reports = reports_prefix(namespace, campaign)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        bucket.download(pcaps_prefix(namespace, campaign), Path(scratch))
        bucket.download(f"{reports}plan.json", Path(scratch))
        report = analyse([Path(scratch)], out, reported=rfc3339(time.time_ns()))
    for name in PRODUCTS:
        bucket.put(reports + name, (out / name).read_bytes())
    if trend := report["campaign"].get("input", {}).get("trend"):
        now = json.dumps(point(report, reports + REPORT), indent=1)
        bucket.put(f"{trends_prefix(namespace, trend)}{campaign}.json", now.encode() + b"\n")
    return report


def _why_no_report_is_needed(bucket: Bucket, namespace: str, campaign: str) -> str:
    prefix = reports_prefix(namespace, campaign)
    there = bucket.keys(prefix)
    if f"{prefix}plan.json" not in there:
        return "nothing was planned, so there is nothing to report"
    return "the report is there" if f"{prefix}report.json" in there else ""


@click.command()
@click.option("--campaign", required=True, help="The campaign's name: the Workflow's.")
@click.option("--namespace", required=True, help="The campaign's namespace.")
@click.option("--unless-reported", is_flag=True, help="Do nothing when there is a report, or nothing was planned.")
def main(campaign: str, namespace: str, *, unless_reported: bool) -> None:
    """Write a campaign's report; exit with 3, after it is saved, when a target was not captured."""
    try:
        bucket = Bucket(repository_from_environment())
        if unless_reported and (why := _why_no_report_is_needed(bucket, namespace, campaign)):
            click.echo(why)
            return
        report = join(bucket, namespace, campaign, SCRATCH)
    except (ObjectStoreError, CaptureError) as error:
        click.echo(f"join: {error}", err=True)
        sys.exit(1)
    for finding in report["findings"]:
        click.echo(f"{finding['severity']}: {finding['text']}")
    missing = not_captured(report)
    for sentence in missing:
        click.echo(f"join: {sentence}", err=True)
    sys.exit(INCOMPLETE if missing else 0)


if __name__ == "__main__":
    main()

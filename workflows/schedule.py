"""Schedules: a campaign again and again, as Argo's CronWorkflow; what a schedule may be, and when it is due.

Argo reads schedules with robfig/cron, which is not quite as other crons are: fields are read here as it does, and
cronsim gets nothing but the numbers that they mean. Argo's full CRDs, where they are installed, refuse names of days
and months: Argo gets numbers in their place.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from hera.workflows import CronWorkflow
from hera.workflows.models import ObjectMeta, WorkflowTemplateRef

from steps.campaign_input import CampaignInput, InvalidInputError
from steps.fields import seconds
from workflows.campaign import LABELS, TEMPLATE

Concurrency = Literal["Allow", "Forbid", "Replace"]

#: Time around the captures for nodes that pull the image, for resolving and for the join, in seconds.
AROUND = 900
#: Argo names a run after its schedule and the time, `-1790000000`, and a campaign's name has at most 63 characters.
LONGEST_NAME = 52
MOST_RUNS = 100
#: Argo counts an interval anew whenever a schedule's status changes, and in any case every 20 minutes: from there on
#: none ever ends.
LONGEST_INTERVAL = 20 * 60


class Field(NamedTuple):
    """One of a schedule's five fields: its least and its largest number, and their names where they have some."""

    name: str
    least: int
    most: int
    names: Sequence[str] = ()

    def allowed(self) -> str:
        """Say what this field may be."""
        named = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        numbers = f"{self.least}-{self.most}{named}"
        return f"{self.name}: * and {numbers} are allowed, with lists (1,3), ranges (1-3) and steps (*/2)"


FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of month", 1, 31),
    Field("month", 1, 12, ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]),
    Field("day of week", 0, 6, ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]),
)
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
TERM = re.compile(r"(?:\*|(?P<low>\d{1,4})(?:-(?P<high>\d{1,4}))?)(?:/(?P<step>\d{1,4}))?", re.ASCII)
EVERY = re.compile(r"@every ((?:\d{1,9}[hms])+)", re.ASCII)
FORMS = (
    "five fields (minute, hour, day of month, month, day of week), @hourly, @daily, @weekly, @monthly, @yearly or"
    " @every 5m are needed"
)


@dataclass(frozen=True)
class Schedule:
    """When a campaign runs, and what becomes of its runs.

    Args:
        expression: five fields of cron, @hourly and its like, or @every and a duration after the last run.
        timezone: where the fields are the time of day, by its name in the IANA database; UTC where it is empty.
        concurrency: what happens to a run that is due while the last one is not over: it runs beside it, is left out,
            or takes its place, and the last one is not reported.
        suspend: nothing runs.
        successful_runs: Workflows to keep of runs that captured every target; reports are kept elsewhere.
        failed_runs: Workflows to keep of the others.

    Raises:
        InvalidInputError: one of them is wrong, or the schedule is never due.

    """

    expression: str
    timezone: str = ""
    concurrency: Concurrency = "Forbid"
    suspend: bool = False
    successful_runs: int = 3
    failed_runs: int = 3

    def __post_init__(self) -> None:
        if self.concurrency not in get_args(Concurrency):
            raise InvalidInputError(
                f"concurrency: {self.concurrency!r}: one of {', '.join(get_args(Concurrency))} is needed"
            )
        for name, runs in (("successful-runs", self.successful_runs), ("failed-runs", self.failed_runs)):
            if not 0 <= runs <= MOST_RUNS:
                raise InvalidInputError(f"{name}: {runs}: at least 0 and at most {MOST_RUNS} is allowed")
        self.due(datetime(2000, 1, 1, tzinfo=UTC))

    @property
    def cron(self) -> str:
        """The expression as Argo's controller and both of its CRDs read it: numbers in the place of names."""
        text = " ".join(self.expression.split())
        if text.startswith("@"):
            return text
        fields = text.upper().replace("?", "*").split()
        if len(fields) != len(FIELDS):
            raise self._wrong(FORMS)
        return " ".join(map(_in_numbers, fields, FIELDS))

    @property
    def is_interval(self) -> bool:
        """Whether it is a time after the last run, and not one of the day."""
        return self.cron.startswith("@every")

    def due(self, after: datetime) -> datetime:
        """Give when it is due next after a time, in the schedule's time zone; @every counts from that time.

        An hour that clocks leave out has no runs, one that they repeat has them twice, as Argo has it.
        """
        zone = self._zone()
        if self.is_interval:
            return after.astimezone(zone) + self._interval()
        fields = MACROS.get(self.cron, self.cron).split()
        if len(fields) != len(FIELDS):
            raise self._wrong(FORMS)
        numbers = [self._numbers(text, field) for text, field in zip(fields, FIELDS, strict=True)]
        try:  # with seconds, or cronsim would do as Debian's cron does when clocks change
            return next(CronSim(" ".join(["0", *numbers]), after.astimezone(zone)))
        except (CronSimError, StopIteration):
            raise self._wrong("no month has such a day, so it is never due") from None

    def _numbers(self, text: str, field: Field) -> str:
        """Give a field as the numbers that it means to Argo; * only where Argo takes it for any day."""
        numbers: set[int] = set()
        is_any = False
        for term in text.split(","):
            match = TERM.fullmatch(term)
            if not match:
                raise self._wrong(field.allowed())
            low, step = int(match["low"] or field.least), int(match["step"] or 1)
            ends = match["low"] and not match["step"]  # 5/10 is 5-59/10
            high = int(match["high"] or (low if ends else field.most))
            if not field.least <= low <= high <= field.most or not step:
                raise self._wrong(field.allowed())
            numbers |= set(range(low, high + 1, step))
            is_any |= not match["low"] and step == 1
        return "*" if is_any else ",".join(map(str, sorted(numbers)))

    def _interval(self) -> timedelta:
        match = EVERY.fullmatch(self.cron)
        if not match:
            raise self._wrong("@every needs a duration such as 5m, 90s or 1m30s")
        if not 1 <= (interval := seconds(match[1])) < LONGEST_INTERVAL:
            raise self._wrong("@every may be from 1s to less than 20m; fields say longer ones: 0 */2 * * *")
        return timedelta(seconds=interval)

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError):  # the latter of names that are directories: Europe
            raise InvalidInputError(
                f"timezone: {self.timezone!r}: no such time zone; the IANA database's name is needed: Europe/Rome"
            ) from None

    def _wrong(self, reason: str) -> InvalidInputError:
        return InvalidInputError(f"schedule: {self.expression!r}: {reason}")


def _in_numbers(text: str, field: Field) -> str:
    numbers = {name: str(number) for number, name in enumerate(field.names, field.least)}
    return re.sub("[A-Z]+", lambda match: numbers.get(match[0], match[0]), text)


def check_name(name: str) -> None:
    """Make sure that a schedule, and so each of its runs, can have this name.

    Raises:
        InvalidInputError: it cannot.

    """
    if len(name) > LONGEST_NAME or not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name):
        raise InvalidInputError(
            f"name: {name!r}: at most {LONGEST_NAME} of a-z, 0-9 and -, with no - at either end (a run's name has"
            " the time after it)"
        )


class _Labelling(CronWorkflow):
    """A CronWorkflow whose Workflows have its labels from the start: Hera has no attribute for that."""

    def build(self) -> Any:
        model: Any = super().build()
        model.spec.workflow_metadata = ObjectMeta(labels=self.labels)
        return model


def scheduled(
    asked: CampaignInput, *, name: str, namespace: str, schedule: Schedule, labels: Mapping[str, str] = {}
) -> CronWorkflow:
    """Build the CronWorkflow that runs a campaign on a schedule; each run resolves its targets when it begins.

    Args:
        asked: the campaign; unless it continues another trend, its runs are one by the name of the schedule.
        name: the schedule's name, of at most 52 characters.
        namespace: where the campaigns run.
        schedule: when they do.
        labels: of the CronWorkflow and of its Workflows, beside those of every campaign.

    Raises:
        InvalidInputError: a schedule cannot have this name.

    """
    check_name(name)
    every = {**LABELS, **labels}
    return _Labelling(
        kind="CronWorkflow",
        name=name,
        namespace=namespace,
        labels=every,
        schedules=[schedule.cron],
        timezone=schedule.timezone or "UTC",  # else Argo's controller would take its own
        concurrency_policy=schedule.concurrency,
        cron_suspend=schedule.suspend,
        successful_jobs_history_limit=schedule.successful_runs,
        failed_jobs_history_limit=schedule.failed_runs,
        workflow_template_ref=WorkflowTemplateRef(name=TEMPLATE),
        arguments=asked.model_copy(update={"trend": asked.trend or name}).parameters(),
        active_deadline_seconds=int(asked.duration) + AROUND,
    )

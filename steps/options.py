"""What the steps' commands are given: quantities with their units, and a campaign's input, an option for each field."""

from collections.abc import Callable

import click
from pydantic import ByteSize, TypeAdapter, ValidationError

from steps.campaign_input import CampaignInput
from steps.fields import DAY, seconds


class Quantity(click.ParamType[float]):
    """A number with its unit, as `read` reads it."""

    def __init__(self, name: str, read: Callable[[object], float]) -> None:
        self.name, self._read = name, read

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; one sentence when it is none."""
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def size(text: object) -> int:
    """Read a size in bytes, such as 64MiB."""
    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        raise ValueError("a size such as 512KiB, 64MiB or 1GiB is needed") from None


def duration(text: object) -> float:
    """Read a duration of at most a year, in seconds."""
    read = seconds(text)
    if read > 365 * DAY:
        raise ValueError("at most 365d is allowed")
    return read


DURATION, SIZE = Quantity("duration", duration), Quantity("size", size)


def input_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option per field of CampaignInput; the command gets each as text."""
    for name, field in reversed(CampaignInput.model_fields.items()):
        command = click.option(f"--{name}", name, help=field.description)(command)
    return command

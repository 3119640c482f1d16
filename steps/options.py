"""The options of the steps' commands that come from the campaign's input, one for each of its fields."""

from collections.abc import Callable

import click

from steps.campaign_input import CampaignInput


def input_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option per field of CampaignInput; the command gets each as text."""
    for name, field in reversed(CampaignInput.model_fields.items()):
        command = click.option(f"--{name}", name, help=field.description)(command)
    return command

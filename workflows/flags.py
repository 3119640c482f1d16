"""Command-line flags of a campaign: one for each field of its input, with the same name, text and default."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import yaml
from pydantic.fields import FieldInfo

from steps.campaign_input import CampaignInput, InvalidInputError, campaign_input
from workflows.campaign import NAMESPACE

Command = TypeVar("Command", bound=Callable[..., Any])

namespace = click.option(
    "-n", "--namespace", default=NAMESPACE, show_default=True, help="The namespace where campaigns run."
)


def campaign_flags(command: Command) -> Command:
    """Add the flags of a campaign to a command; those that were not given arrive as None or ()."""
    command = click.option(
        "-f", "--file", type=click.Path(path_type=Path), help="Read the campaign from a YAML file; flags win over it."
    )(command)
    for name, field in reversed(CampaignInput.model_fields.items()):
        command = _flag(name, field)(command)
    return command


def _flag(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    default = _default(name)
    settings: dict[str, Any] = {"help": f"{field.description}{f'  [default: {default}]' if default else ''}"}
    if field.annotation is bool:
        return click.option(f"--{name}/--no-{name}", default=None, **settings)
    if isinstance(field.default, list):
        return click.option(f"--{name}", multiple=True, metavar="NAME,...", **settings)
    choices = get_args(field.annotation)
    return click.option(f"--{name}", type=click.Choice(choices) if choices else str, **settings)


def _default(name: str) -> str:
    return CampaignInput.defaults()[name].removesuffix("false")  # what is off says so by its pair of flags


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the flags that were given; lists may come as several flags, and with commas in each."""
    kept = {name: value for name, value in values.items() if value not in {None, ()}}
    return {name: ",".join(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def asked(file: Path | None, values: Mapping[str, Any]) -> CampaignInput:
    """Give the campaign that a file and flags ask for together.

    Raises:
        InvalidInputError: the file cannot be read, or the input is wrong.

    """
    return campaign_input({**(_read(file) if file else {}), **given(values)})


def directory(out: Path) -> Path:
    """Make the directory that --out names, before there is something to put into it.

    Raises:
        InvalidInputError: it cannot be made, or be written to.

    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"out: {str(out)!r}: {(error.strerror or 'cannot be made').lower()}") from None
    if not os.access(out, os.W_OK):
        raise InvalidInputError(f"out: {str(out)!r}: no permission to write there")
    return out


def _read(file: Path) -> dict[str, Any]:
    try:
        read = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InvalidInputError(f"{file}: {(error.strerror or 'cannot be read').lower()}") from None
    except UnicodeDecodeError:
        raise InvalidInputError(f"{file}: not YAML: it is no text") from None
    except yaml.YAMLError as error:
        raise InvalidInputError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(read, dict):
        raise InvalidInputError(f"{file}: a campaign's fields are needed, such as selector: app=web")
    if {"apiVersion", "kind"} <= read.keys():
        raise InvalidInputError(f"{file}: a campaign's fields are needed; a {read['kind']} is for kubectl apply")
    return read

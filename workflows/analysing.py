"""The command that needs no cluster: analyse captures that are files here."""

import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis import thresholds as limits
from analysis.captures import CaptureError

if TYPE_CHECKING:
    from analysis.packets import Reading

TABLES = ("connections", "packets", "dns", "tls", "http")


def _words(_: click.Context, __: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    """Take several flags, and several words with commas in each."""
    words = tuple(word for text in given for word in text.replace(",", " ").split())
    if given and not words:
        raise click.BadParameter("nothing is named")
    return words


def _tables(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    words = _words(context, parameter, given)
    for word in words:
        if word not in TABLES:
            raise click.BadParameter(f"{word!r} is no table: there are {', '.join(TABLES)}")
    return words


def _ports(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> tuple[int, ...]:
    number: click.ParamType[int] = click.IntRange(1, 65535)
    return tuple(number.convert(word, parameter, context) for word in _words(context, parameter, given))


@click.command("analyse")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where the report and its tables go.")
@click.option(
    "--tables",
    multiple=True,
    callback=_tables,
    metavar="NAME,...",
    help=f"Write only these tables, and no report: {', '.join(TABLES)}. The quickest way to Parquet.",
)
@click.option(
    "--connection", metavar="ID", help="List the packets of the connections with this Community ID; nothing is written."
)
@click.option(
    "--thresholds",
    multiple=True,
    callback=_words,
    metavar="NAME=VALUE,...",
    help="What is worth a finding, such as dns_slow_ms=50; docs/report.md has them all.",
)
@click.option(
    "--vxlan",
    multiple=True,
    callback=_ports,
    metavar="PORT,...",
    help="UDP ports on which VXLAN is spoken.  [default: 4789,8472]",
)
@click.option("--open", "show", is_flag=True, help="Show the report in a browser.")
def analyse_command(  # noqa: PLR0913, PLR0917 - as many flags
    paths: tuple[Path, ...],
    out: Path | None,
    tables: tuple[str, ...],
    connection: str | None,
    thresholds: tuple[str, ...],
    vxlan: tuple[int, ...],
    show: bool,
) -> None:
    """Report on captures that are files here: pcap and pcapng, compressed with gzip or zstd or not.

    PATH is a file, or a directory as `snoopy report --captures` fetches them.

    \b
    Examples:
      snoopy analyse capture.pcap --out report --open
      snoopy analyse capture.pcap --out tables --tables connections,dns
      snoopy analyse capture.pcap --connection 1:LQU9qZlK+B5F3KDmev6m5PMibrg=
    """  # noqa: D301 - a real backspace, which tells click to leave the lines as they are
    if (out is None) == (connection is None):
        raise click.UsageError("give either --out, for a report or tables, or --connection")
    of_report: dict[str, object] = {"--thresholds": thresholds, "--open": show}
    if connection is not None:
        _refuse("--connection", {"--tables": tables, **of_report})
    elif tables:
        _refuse("--tables", of_report)
    from analysis.packets import Reading  # noqa: PLC0415 - whoever asks for help does not wait for it

    reading = Reading(vxlan_ports=vxlan) if vxlan else None
    if connection is not None:
        _show_connection(paths, connection, reading)
    elif out and tables:
        _write_tables(paths, out, tables, reading)
    elif out:
        _write_report(paths, out, thresholds, reading, show=show)


def _refuse(flag: str, others: Mapping[str, object]) -> None:
    """Refuse those of the other flags that were given: they would do nothing."""
    if given := [name for name, value in others.items() if value]:
        raise click.UsageError(f"with {flag} no report is written: {' and '.join(given)} would do nothing")


def _show_connection(paths: Sequence[Path], identity: str, reading: "Reading | None") -> None:
    from analysis.following import follow  # noqa: PLC0415 - as above

    shown = 0
    for line in follow(paths, identity, reading):
        click.echo(line)
        shown += 1
    if not shown:
        raise CaptureError(f"connection: no capture here has one with the Community ID {identity!r}")


def _write_tables(paths: Sequence[Path], out: Path, tables: Sequence[str], reading: "Reading | None") -> None:
    from analysis.extract import extract  # noqa: PLC0415 - as above

    for sentence in extract(paths, out, tables, reading):
        click.echo(f"warning: {sentence}", err=True)
    for name in TABLES:
        if name in tables:
            click.echo(out / f"{name}.parquet")


def _write_report(
    paths: Sequence[Path], out: Path, chosen: Sequence[str], reading: "Reading | None", *, show: bool
) -> None:
    of_findings = limits.thresholds(chosen) if chosen else None  # what is wrong with them is said at once
    from analysis.analyse import analyse  # noqa: PLC0415 - pandas takes half a second, and only a report needs it
    from workflows.printing import finding_lines  # noqa: PLC0415 - as above

    report = analyse(paths, out, limits=of_findings, reading=reading)
    click.echo("\n".join(finding_lines(report)), err=True)
    click.echo(out / "report.html")
    if show:
        webbrowser.open((out / "report.html").absolute().as_uri())

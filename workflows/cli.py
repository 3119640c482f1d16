"""The `snoopy` command: campaigns from the user's terminal, with the user's own rights."""

import errno
from importlib import import_module
from typing import Any

import click

COMMANDS = {  # in the order of `snoopy --help`: the module of each, imported when it is called, and what it does
    "submit": ("starting", "Start a campaign: capture at every chosen pod at once, and report."),
    "resolve": ("starting", "Show which pods a campaign would capture, and which it would leave out and why."),
    "run": ("starting", "Run a campaign on this machine, without a cluster."),
    "list": ("existing", "List the campaigns, the newest first."),
    "get": ("existing", "Show a campaign: its phase, its targets, and how long each part of it took."),
    "wait": ("existing", "Wait for a campaign's end, and show what happens at each target."),
    "stop": ("existing", "Stop a campaign: what was captured so far is kept and reported."),
    "logs": ("existing", "Show what a campaign's pods printed: all of them, or one TARGET's, namespace/pod."),
    "report": ("existing", "Fetch a campaign's report from the object store."),
    "fetch": (
        "existing",
        "Fetch what is below a prefix of the object store: what a data endpoint took, the points of a trend.",
    ),
    "cron": ("cron", "Run campaigns on a schedule: each run has its own report, and all of them are one trend."),
    "analyse": (
        "analysing",
        "Report on captures that are files here: pcap and pcapng, compressed with gzip or zstd or not.",
    ),
    "manifests": ("starting", "Write the WorkflowTemplate of campaigns as YAML, for `kubectl apply`."),
}
BAD_INPUT, REFUSED = 2, 3
EXIT_CODES = {  # of an exception, or of one of its bases, by name: whoever raises it has imported it, nobody else need
    "analysis.captures.CaptureError": BAD_INPUT,
    "analysis.captures.WritingError": REFUSED,
    "analysis.thresholds.ThresholdError": BAD_INPUT,
    "steps.cluster.ClusterError": REFUSED,
    "steps.objects.ObjectStoreError": REFUSED,
    "steps.campaign_input.InvalidInputError": BAD_INPUT,
    "steps.resolve.ResolveError": BAD_INPUT,
    "steps.uploads.UploadError": REFUSED,
}


def _exit_code(error: Exception) -> int | None:
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
    return next((EXIT_CODES[name] for name in names if name in EXIT_CODES), None)


class _Commands(click.Group):
    """A group whose commands end with a sentence and an exit code when something is refused."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"workflows.{module}"), f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read our output has had enough: click's business
                raise
            click.echo(f"Error: {error.filename or 'this machine'}: {error.strerror or error}", err=True)
            ctx.exit(REFUSED)
        except Exception as error:
            if (code := _exit_code(error)) is None:
                raise
            click.echo("\n".join([f"Error: {error}", *getattr(error, "__notes__", ())]), err=True)
            ctx.exit(code)


@click.group(cls=_Commands)
@click.version_option(package_name="snoopy-campaigns")
def main() -> None:
    """Find out what is wrong with the network between pods: capture at all of them at once, read one report.

    \b
    Exit codes:
      0    done; with --wait: every target was captured and reported, or you stopped it
      1    the campaign failed, or a target was not captured: its report says which
      2    bad input: a flag, a file, a filter, a selection without pods
      3    the cluster, the object store or this machine refused, or cannot be reached
      130  interrupted while waiting; the campaign was left running
    """  # noqa: D301 -- a real backspace, which tells click to leave the lines as they are


if __name__ == "__main__":
    main()

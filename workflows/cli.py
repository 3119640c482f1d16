"""The `snoopy` command: campaigns from the user's terminal, with the user's own rights."""

import errno
from importlib import import_module
from typing import Any

import click

COMMANDS = {  # in the order of `snoopy --help`; each in a module that is imported when it is called: some are heavy
    **dict.fromkeys(("submit", "resolve", "run"), "starting"),
    **dict.fromkeys(("list", "get", "wait", "stop", "logs", "report"), "existing"),
    "analyse": "analysing",
    "manifests": "starting",
}
BAD_INPUT, REFUSED = 2, 3
EXIT_CODES = {  # by name, for the same reason
    **dict.fromkeys(("InvalidInputError", "ResolveError", "CaptureError", "ThresholdError"), BAD_INPUT),
    **dict.fromkeys(("ClusterError", "ObjectStoreError", "UploadError"), REFUSED),
}


class _Commands(click.Group):
    """A group whose commands end with a sentence and an exit code when something is refused."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"workflows.{COMMANDS[cmd_name]}"), f"{cmd_name}_command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read our output has had enough: click's business
                raise
            click.echo(f"Error: {error.filename or 'this machine'}: {error.strerror or error}", err=True)
            ctx.exit(REFUSED)
        except Exception as error:
            if type(error).__name__ not in EXIT_CODES:
                raise
            click.echo("\n".join([f"Error: {error}", *getattr(error, "__notes__", ())]), err=True)
            ctx.exit(EXIT_CODES[type(error).__name__])


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

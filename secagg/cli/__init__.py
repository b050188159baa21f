"""The command line. Commands are entry points in the group `secagg.commands`, loaded only when they are used."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import EntryPoint, entry_points

import click

GROUP = "secagg.commands"


class Commands(click.Group):
    """A group whose subcommands are found through entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _entries().get(cmd_name)
        if entry is None:
            return None
        try:
            command: click.Command = entry.load()
        except ImportError as error:
            return _unavailable(cmd_name, f"needs a library: {error}")
        except AttributeError as error:
            return _unavailable(cmd_name, f"cannot be loaded: {error}")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _entries() and not args[0].startswith("-"):
            from secagg.errors import did_you_mean

            raise click.UsageError(f"unknown command {args[0]!r}{did_you_mean(args[0], _entries())}")
        return super().resolve_command(ctx, args)


def _unavailable(name: str, why: str) -> click.Command:
    """A command that cannot be loaded: it still has its line in the help, and says why when it is called."""

    def refuse(**_: object) -> None:
        raise click.ClickException(f"the command {name!r} {why}")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=refuse, short_help=f"({why})", context_settings=settings)


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="secagg")
def cli() -> None:
    """Secure aggregation for federated learning: swappable protection, measured leakage."""


def main() -> None:
    """Run the command line. A user's mistake is one line and exit code 2; failed evidence exits with 1."""
    from secagg.errors import SecaggError

    # How schedulers stop a job: like Ctrl-C, so that what was begun is closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = cli.main(prog_name="secagg", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        click.echo(f"secagg: {' '.join(error.format_message().split())}", err=True)
        code = 2
    except SecaggError as error:
        click.echo(f"secagg: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        code = 141
    except ImportError as error:
        click.echo(f"secagg: a library is missing ({error}): install secagg[fl], see docs/how-to/install.md", err=True)
        code = 2
    except OSError as error:
        click.echo(f"secagg: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("secagg: interrupted", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)

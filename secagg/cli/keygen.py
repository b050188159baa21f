"""`secagg keygen`: a site's identity keys."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder for NAME.key and NAME.pub (default: here).",
)
def command(name: str, output: Path) -> None:
    """Make an identity for the site NAME: NAME.key (private, mode 0600) and NAME.pub (to hand out)."""
    import json

    from secagg.errors import Refused
    from secagg.identity import Identity, check_party_id

    check_party_id(name)
    public = output / f"{name}.pub"
    if public.exists():
        raise Refused(f"{public}: exists already and is not overwritten")
    identity = Identity.generate()
    try:
        output.mkdir(parents=True, exist_ok=True)
        identity.save(output / f"{name}.key")
        public.write_text(json.dumps({"name": name, **identity.public.to_json()}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Refused(f"{output}: cannot write the keys: {error.strerror}") from None
    click.echo(f"{output / name}.key  private, keep it")
    click.echo(f"{output / name}.pub  public, hand it out")
    click.echo(f"fingerprint {identity.public.fingerprint.hex()}")

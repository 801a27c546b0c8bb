"""``mlpipex alerts …``: who is notified, named once for every process that has the ledger."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from airflow_provider_mlpipex.adapters.sql.alert_channels import SqlAlertChannels
from airflow_provider_mlpipex.cli.terminal import AsJson, configured_platform, emit
from airflow_provider_mlpipex.composition import Settings, terminal_origin
from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid

app = typer.Typer(no_args_is_help=True, help="Who is notified of rollbacks, drift and doubts.")

Channel = Annotated[str, typer.Argument(help="As manifests name it: alerts.channel; on-call where they name none.")]


@app.command("list")
def list_channels(as_json: AsJson = False) -> None:
    """Name every channel and its receivers, without their credentials."""
    settings = Settings.from_environment()
    shared = SqlAlertChannels(settings.ledger_url).read()
    channels = {
        **{channel: {"kept": "ledger", "receivers": _services(urls)} for channel, urls in shared.items()},
        **{
            channel: {"kept": "MLPIPEX_ALERT_CHANNELS, this process alone", "receivers": _services(urls)}
            for channel, urls in settings.alert_channels.items()
        },
    }
    emit(
        channels,
        as_json,
        lambda: (
            "\n".join(f"{name}: {', '.join(each['receivers'])} ({each['kept']})" for name, each in channels.items())
            or "no channel has receivers: nobody would be notified; mlpipex alerts set on-call APPRISE-URL"
        ),
    )


@app.command("set")
def set_channel(
    channel: Channel,
    urls: Annotated[
        list[str], typer.Argument(help="Apprise urls, one a receiver: mailto://…, slack://…, pagerduty://…, json://…")
    ],
    as_json: AsJson = False,
) -> None:
    """Keep the receivers of a channel in the ledger, in place of those it had. Tasks, terminal and plane use them.

    The urls hold credentials: whoever can read the ledger's database can read them.
    """
    import apprise

    broken = [position for position, url in enumerate(urls, start=1) if not apprise.Apprise().add(url)]
    if broken:
        raise ConfigurationInvalid(
            f"receivers of channel {channel}",
            value=f"number {', '.join(map(str, broken))} of {len(urls)}",
            limit="Apprise urls, such as mailto://user:password@example.com or json://host/path",
            remedy="see https://github.com/caronc/apprise/wiki for the url of each service",
        )
    SqlAlertChannels(Settings.from_environment().ledger_url).set(channel, urls, by=terminal_origin().user)
    answer = f"{channel}: {', '.join(_services(urls))}; try it with mlpipex alerts test {channel}"
    emit({"channel": channel, "receivers": _services(urls)}, as_json, lambda: answer)


@app.command()
def remove(channel: Channel, as_json: AsJson = False) -> None:
    """Take a channel out of the ledger's settings."""
    SqlAlertChannels(Settings.from_environment().ledger_url).set(channel, (), by=terminal_origin().user)
    emit({"channel": channel, "receivers": []}, as_json, lambda: f"{channel}: no receivers in the ledger any more")


@app.command()
def test(channel: Channel = "on-call", as_json: AsJson = False) -> None:
    """Send a test alert; exit code 1 where a receiver could not be notified."""
    delivery = configured_platform().alerter.alert(
        channel=channel,
        title="MLPipeX test alert",
        body="Nothing has happened: somebody tries whether alerts arrive.",
        severity="info",
        facts={"sent by": terminal_origin().user},
    )
    lines = [*(f"notified: {who}" for who in delivery.notified), *(f"NOT NOTIFIED: {why}" for why in delivery.failures)]
    emit(delivery.to_json(), as_json, lambda: "\n".join(lines))
    if delivery.failures:
        raise typer.Exit(1)


def _services(urls: list[str] | tuple[str, ...]) -> list[str]:
    return [urlsplit(url).scheme for url in urls]

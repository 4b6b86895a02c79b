"""`peerd status`: a node and its members, at a glance."""

import json
from datetime import UTC, datetime

import click
import rich.box
from rich.console import Console
from rich.table import Table

from app.api.models import MemberList, Status, TransferList
from app.cli.help import ExampleCommand
from app.cli.node_option import json_option, node_option
from app.cli.units import bytes_text, seconds_text, share_text
from app.client import api
from app.client.node import Node

_ENDED_SHOWN = 5


@click.command(
    cls=ExampleCommand,
    short_help="Show a node, its members and transfers.",
    examples={
        "peerd status": "the node on this machine",
        "peerd status --json | jq .status.saved_upstream_bytes": "one number for a script",
    },
)
@node_option
@json_option
def command(*, node: Node, as_json: bool) -> None:
    """Show a node and its members: state, zone, cache used, bytes by source, and what is being transferred now."""
    status, members, transfers = api.status(node), api.members(node), api.transfers(node)
    if as_json:
        documents = {"status": status, "members": members, "transfers": transfers}
        click.echo(json.dumps({name: one.model_dump(mode="json") for name, one in documents.items()}, indent=2))
        return
    console = Console()
    for part in (_node_table(status), _bytes_table(status), _members_table(members), _transfers_table(transfers)):
        console.print(part)


def _table(title: str, *headings: str) -> Table:
    """Text to the left, and numbers, whose headings end with a blank, to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading.strip(), justify="right" if heading.endswith(" ") else "left", overflow="fold")
    table.show_header = any(headings)
    return table


def _node_table(status: Status) -> Table:
    node, cache = status.node, status.cache
    table = _table(f"{node.name} (peerd {node.version})", "", "")
    table.add_row("state", f"{node.state}, for {seconds_text(node.uptime_seconds)}")
    table.add_row("zone", node.zone or "-")
    doors = {name: address for name, address in node.doors.model_dump().items() if address}
    table.add_row("doors", ", ".join(f"{name} {address}" for name, address in doors.items()))
    counts = status.members
    table.add_row("members", f"{node.membership}: {counts.alive} alive, {counts.failed} failed, {counts.left} left")
    table.add_row(
        "cache",
        f"{bytes_text(cache.used_bytes)} of {bytes_text(cache.quota_bytes)} "
        f"({share_text(cache.used_bytes, cache.quota_bytes)}), {cache.contents} contents",
    )
    saved = status.saved_upstream_bytes
    table.add_row(
        "upstream",
        f"{bytes_text(saved)} less than clients were sent"
        if saved >= 0
        else f"{bytes_text(-saved)} fetched for others",
    )
    return table


def _bytes_table(status: Status) -> Table:
    table = _table("Bytes since the start", "", "bytes ", "share ")
    served = status.bytes.served.model_dump()
    for source, count in served.items():
        table.add_row(f"to clients from {source}", bytes_text(count), share_text(count, sum(served.values())))
    table.add_section()
    table.add_row("received from peers", bytes_text(status.bytes.received.peer), "")
    table.add_row("received from upstream", bytes_text(status.bytes.received.upstream), "")
    table.add_row("sent to peers", bytes_text(status.bytes.uploaded), "")
    return table


def _members_table(members: MemberList) -> Table:
    table = _table("Members", "name", "state", "zone", "peer door", "version", "keys ", "round trip ")
    colours = {"alive": "green", "failed": "red", "left": "dim"}
    for member in members.members:
        trip = member.round_trip_seconds
        table.add_row(
            f"{member.name} (this node)" if member.me else member.name,
            f"[{colours[member.state]}]{member.state}[/]",
            member.zone or "-",
            member.peer_address or "-",
            member.version or "-",
            str(member.keys),
            "-" if trip is None else f"{trip * 1000:.1f} ms",
        )
    return table


def _transfers_table(transfers: TransferList) -> Table | str:
    """What runs, and the few that ended last."""
    running = [one for one in transfers.transfers if one.state in {"waiting", "running"}]
    ended = [one for one in transfers.transfers if one not in running]
    ended.sort(key=lambda one: one.started_at)
    if not transfers.transfers:
        return "No transfers to clients."
    table = _table("Transfers to clients", "content", "door", "state", "bytes ", "rate ", "peers % ", "began")
    now = datetime.now(UTC)
    for transfer in (*running, *ended[-_ENDED_SHOWN:]):
        total = "?" if transfer.total_bytes is None else bytes_text(transfer.total_bytes)
        sources = transfer.source_bytes.model_dump()
        table.add_row(
            transfer.key[:15],
            transfer.door,
            transfer.state,
            bytes_text(transfer.done_bytes) + ("" if transfer.state == "finished" else f" of {total}"),
            f"{bytes_text(transfer.rate_bytes_per_second)}/s",
            share_text(sources["peer"], sum(sources.values())),
            f"{seconds_text(max(0.0, (now - transfer.started_at).total_seconds()))}",
        )
    return table

"""`peerd serve`: one node, until it is told to end."""

import os
import sys

import click

from app.cli.settings_options import SettingsCommand, settings_options
from app.settings import Settings


@click.command(
    cls=SettingsCommand,
    short_help="Run one node.",
    examples={
        "peerd serve --cache-dir /tmp/peerd --registry example.local=http://127.0.0.1:5500": "a node that is alone",
        "peerd serve --tls-ca ca.crt --tls-cert node-a.crt --tls-key node-a.key --join node-b:7946": "a member of a cluster",
    },
)
@settings_options()
def command(settings: Settings) -> None:
    """Run one node until SIGTERM or SIGINT: then it withdraws from the cluster, lets running answers end and exits 0.

    Every option is also an environment variable (--cache-size is PEERD_CACHE_SIZE; lists are separated by blanks) and a
    key in the YAML file of --config (cache-size: 10GiB). The command line wins over the environment, the environment
    over the file.
    """
    # gRPC's core writes to stderr by itself: only what is wrong is of interest, and this process does not fork.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # Web framework and gRPC are loaded for the node alone, not for the help of the other commands.
    from app.main import serve  # noqa: PLC0415

    sys.exit(serve(settings, dict(os.environ)))

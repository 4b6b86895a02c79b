"""What the doctor says of a good node, and of one for each fault that it knows: word for word."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from app.containerd.config_toml import ContainerdConfig
from app.doctor.checks import examine
from app.doctor.facts import (
    CertificateFacts,
    ClockFacts,
    ConfigFacts,
    ContainerdFacts,
    DiskFacts,
    DoorFacts,
    Facts,
    MirrorFileFacts,
    NodeFacts,
    ReachFacts,
)

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
CERTS_D = Path("/etc/containerd/certs.d")
URL = "http://127.0.0.1:30000"
SOCKET = Path("/run/containerd/containerd.sock")
CONFIG = ConfigFacts(Path("/etc/containerd/config.toml"), ContainerdConfig(2, (CERTS_D,)), CERTS_D)
MIRROR = MirrorFileFacts("ghcr.io", CERTS_D / "ghcr.io/hosts.toml", (URL, "https://ghcr.io"))
NODE = NodeFacts(URL, "ready", "1.0.0", "serf", alive=3)
CERTIFICATE = CertificateFacts(
    Path("/etc/peerd/node-a.crt"),
    "node-a.peerd",
    ("node-a.peerd",),
    trusted=True,
    keyed=True,
    begins=NOW - dt.timedelta(days=30),
    ends=NOW + dt.timedelta(days=300),
)
DISK = DiskFacts(Path("/var/lib/peerd"), free_bytes=50 << 30, used_bytes=4 << 30, quota_bytes=10 << 30)
GOOD = Facts(
    containerd=ContainerdFacts(SOCKET, "1.7.12"),
    config=CONFIG,
    mirrors=(MIRROR,),
    mirror_url=URL,
    door=DoorFacts(URL),
    node=NODE,
    reach=(
        ReachFacts("node-a", True, "peer", "10.0.0.1:5001"),
        ReachFacts("node-a", True, "gossip", "10.0.0.1:5002"),
        ReachFacts("node-b", False, "peer", "10.0.0.2:5001"),
        ReachFacts("node-b", False, "gossip", "10.0.0.2:5002"),
    ),
    certificate=CERTIFICATE,
    clock=ClockFacts(NOW, True),
    disk=DISK,
)


def read_golden() -> dict[str, list[str]]:
    """Lines by the heading above them."""
    sections = (Path(__file__).parent / "golden.txt").read_text().split("\n## ")[1:]
    return {section.splitlines()[0]: section.rstrip("\n").splitlines()[1:] for section in sections}


GOLDEN = read_golden()


def said(facts: Facts) -> str:
    return "".join(f"{finding}\n" for finding in examine(facts))


def test_a_good_node() -> None:
    assert said(GOOD).splitlines() == GOLDEN["a good node"]


def test_a_node_that_mirrors_nothing_and_is_alone() -> None:
    facts = replace(
        GOOD, mirrors=(), door=None, reach=(), certificate=None, node=replace(NODE, membership="alone", alive=1)
    )
    assert said(facts).splitlines() == GOLDEN["a node that mirrors nothing and is alone"]


def config(**changes: object) -> ConfigFacts:
    return replace(CONFIG, config=replace(CONFIG.config, **changes))


def with_silent(member: int, error: str) -> tuple[ReachFacts, ...]:
    return tuple(replace(one, error=error) if index == member else one for index, one in enumerate(GOOD.reach))


FAULTS: dict[str, dict[str, object]] = {
    "containerd is away": {"containerd": ContainerdFacts(SOCKET, None, "no such socket")},
    "containerd is away, and nothing is mirrored": {
        "containerd": ContainerdFacts(SOCKET, None, "no such socket"),
        "mirrors": (),
        "door": None,
    },
    "containerd is too old": {"containerd": ContainerdFacts(SOCKET, "1.4.13")},
    "config_path is missing": {"config": config(config_path=())},
    "config_path is missing for containerd 2": {"config": config(config_path=(), version=3)},
    "there is no configuration": {
        "config": replace(CONFIG, config=None, error="/etc/containerd/config.toml can not be read: No such file")
    },
    "config_path names another folder": {"config": config(config_path=(Path("/etc/a"), Path("/etc/b")))},
    "mirrors in the deprecated way": {"config": config(config_path=(), mirrors=("docker.io", "ghcr.io"))},
    "both ways at once": {"config": config(mirrors=("docker.io",), tls=("ghcr.io",))},
    "no mirror file": {"mirrors": (replace(MIRROR, hosts=None),)},
    "a mirror file without peerd": {"mirrors": (replace(MIRROR, hosts=("https://cache",)),)},
    "peerd is not the first host": {"mirrors": (replace(MIRROR, hosts=("https://cache", URL)),)},
    "a mirror file that is no TOML": {"mirrors": (replace(MIRROR, hosts=None, error="hosts.toml is not TOML"),)},
    "nobody behind the door": {"door": DoorFacts(URL, "Connection refused")},
    "the node is down": {
        "node": NodeFacts(URL, error="nothing listens at http://127.0.0.1:30000: start a node"),
        "reach": (),
    },
    "the node starts": {"node": replace(NODE, state="starting")},
    "nobody else is there": {"node": replace(NODE, alive=1)},
    "a member has failed": {"node": replace(NODE, failed=1)},
    "a peer's port is closed": {"reach": with_silent(2, "timed out")},
    "its own gossip port is not where it says": {"reach": with_silent(1, "Connection refused")},
    "the certificate can not be read": {
        "certificate": CertificateFacts(Path("/etc/peerd/node-a.crt"), "node-a.peerd", error="Permission denied")
    },
    "another's key": {"certificate": replace(CERTIFICATE, keyed=False)},
    "another CA": {"certificate": replace(CERTIFICATE, trusted=False)},
    "another's certificate": {"certificate": replace(CERTIFICATE, names=("node-b.peerd",))},
    "the certificate has ended": {"certificate": replace(CERTIFICATE, ends=NOW)},
    "the certificate ends soon": {"certificate": replace(CERTIFICATE, ends=NOW + dt.timedelta(days=3))},
    "the certificate has not begun": {"certificate": replace(CERTIFICATE, begins=NOW + dt.timedelta(days=1))},
    "nothing keeps the clock right": {"clock": ClockFacts(NOW, False)},
    "the disk is full": {"disk": replace(DISK, free_bytes=10 << 20)},
    "the cache can not grow": {"disk": replace(DISK, free_bytes=5 << 30)},
    "the cache's folder is not writable": {
        "disk": DiskFacts(Path("/var/lib/peerd"), error="/var/lib can not be written to by this user")
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_that_it_knows(fault: str) -> None:
    good = set(said(GOOD).splitlines())
    lines = said(replace(GOOD, **FAULTS[fault])).splitlines()
    assert [line for line in lines if line not in good] == GOLDEN[fault]


def test_every_golden_text_is_of_a_fault() -> None:
    assert set(GOLDEN) == {*FAULTS, "a good node", "a node that mirrors nothing and is alone"}

"""What facts mean. Pure: each check takes what it looks at and gives findings; none asks anything."""

import datetime as dt
import re
from collections.abc import Iterator

from app.containerd.config_toml import plugin_section
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
from app.doctor.finding import Finding, failed, ok, warning

# `hosts.toml` came with 1.5.
_OLDEST_CONTAINERD = (1, 5)
_CERTIFICATE_DAYS_MIN = 14
# Below this a disk that others write to as well is as good as full.
_FREE_BYTES_MIN = 1 << 30


def examine(facts: Facts) -> list[Finding]:
    """Everything, in the order in which an operator would go about it."""
    mirrored = bool(facts.mirrors)
    return [
        check_containerd(facts.containerd, mirrored=mirrored),
        *([check_config(facts.config, facts.containerd.version)] if mirrored else [_no_mirrors()]),
        *(check_mirror_file(mirror, facts.mirror_url) for mirror in facts.mirrors),
        *([check_door(facts.door)] if facts.door else []),
        check_node(facts.node),
        *check_reach(facts.reach),
        *([check_certificate(facts.certificate, facts.clock.now)] if facts.certificate else []),
        check_clock(facts.clock),
        check_disk(facts.disk),
    ]


def check_containerd(facts: ContainerdFacts, *, mirrored: bool) -> Finding:
    """Whether it answers, and is new enough for mirror files."""
    if facts.version is None:
        advice = "start containerd, name its socket with --containerd-socket, or run as a user that may open it"
        verdict = failed if mirrored else warning
        return verdict("containerd", f"no answer at {facts.socket} ({facts.error})", advice)
    if _version(facts.version) < _OLDEST_CONTAINERD:
        return failed("containerd", f"version {facts.version} knows no hosts.toml", "use 1.6 or newer")
    return ok("containerd", f"version {facts.version} at {facts.socket}")


def check_config(facts: ConfigFacts, version: str | None) -> Finding:
    """Whether containerd looks into the folder that the mirror files are in."""
    subject, config = "config_path", facts.config
    add = "write this there and restart containerd:"
    if config is None:
        # A file that is absent is made for the containerd that runs.
        format_version = 3 if version and _version(version) >= (2,) else 2
        header = f"version = {format_version}"
        return failed(subject, f"{facts.error}", add, header, *_config_path_lines(facts, format_version))
    lines = _config_path_lines(facts, config.version)
    deprecated = [f"mirrors of {', '.join(config.mirrors)}"] if config.mirrors else []
    deprecated += [f"certificates of {', '.join(config.tls)}"] if config.tls else []
    seen = f"{facts.path} has {' and '.join(deprecated)} in the deprecated way"
    move = f"move these into hosts.toml files in {facts.mirror_folder}"
    if deprecated and config.config_path:
        return failed(subject, f"{seen} beside config_path, and so containerd's CRI plugin does not start", move)
    if deprecated:
        return failed(subject, f"{seen}, and containerd reads no hosts.toml", f"{move}, {add}", *lines)
    if not config.config_path:
        return failed(subject, f"not set in {facts.path}: containerd reads no hosts.toml", add, *lines)
    if facts.mirror_folder not in config.config_path:
        names = ", ".join(map(str, config.config_path))
        return failed(
            subject,
            f"{facts.path} names {names}, and mirror files are written to {facts.mirror_folder}",
            f"give --hosts-dir {config.config_path[0]}, or leave it out, and run `peerd hosts install`",
        )
    return ok(subject, f"{facts.path} names {facts.mirror_folder}")


def check_mirror_file(facts: MirrorFileFacts, mirror_url: str) -> Finding:
    """Whether containerd asks this node first for images of a registry."""
    subject = f"mirror of {facts.registry}"
    install = f"run `peerd hosts install --hosts {facts.registry}`"
    if facts.error is not None:
        return failed(subject, facts.error, "mend the file, then " + install)
    if facts.hosts is None:
        return failed(subject, f"no {facts.file}: containerd does not ask here", install)
    if mirror_url not in facts.hosts:
        return failed(subject, f"{facts.file} does not name {mirror_url}", install)
    if facts.hosts[0] != mirror_url:
        return warning(subject, f"{facts.file} asks {facts.hosts[0]} before {mirror_url}", "put peerd's host first")
    return ok(subject, f"{facts.file} asks {mirror_url} first")


def check_door(facts: DoorFacts) -> Finding:
    """Whether somebody answers where containerd is sent to."""
    if facts.error is not None:
        return failed(
            "mirror door",
            f"{facts.url} does not answer ({facts.error}), and each pull waits for it first",
            "start peerd with this --http-addr, or put the files back with `peerd hosts restore`",
        )
    return ok("mirror door", f"{facts.url} answers")


def check_node(facts: NodeFacts) -> Finding:
    """Whether the node runs, and has company."""
    if facts.error is not None:
        return failed("node", facts.error, None)
    seen = f"{facts.url} is {facts.state}, peerd {facts.version}"
    if facts.state != "ready":
        return warning("node", seen, "wait, and see its log if it stays so")
    if facts.membership == "alone":
        return warning(
            "node", f"{seen}, and alone", "give --tls-ca, --tls-cert, --tls-key and --join, and it shares with others"
        )
    members = f"{seen}; {facts.alive} members alive, {facts.failed} failed"
    if facts.alive <= 1:
        return warning(
            "node", members, "see that --join names other members, and that their gossip ports can be reached"
        )
    if facts.failed:
        return warning("node", members, "see which with `peerd status`, and whether these nodes run")
    return ok("node", members)


def check_reach(reach: tuple[ReachFacts, ...]) -> Iterator[Finding]:
    """Whether members' doors can be connected to, this node's own by the address that it tells the others."""
    for door in ("peer", "gossip"):
        facts = [one for one in reach if one.door == door]
        subject = f"{door} port"
        silent = [one for one in facts if one.error is not None]
        for one in silent:
            yield failed(
                subject,
                f"{'this node' if one.me else one.member} does not answer at {one.address} ({one.error})",
                "see that --advertise-host is an address that members reach"
                if one.me
                else f"open TCP port {one.address.rpartition(':')[2]} between nodes",
            )
        if facts and not silent:
            yield ok(subject, f"{len(facts)} of {len(facts)} members answer")


def check_certificate(facts: CertificateFacts, now: dt.datetime) -> Finding:
    """Whether members will believe it, and for how long."""
    subject = "certificate"
    node = facts.wanted_name.removesuffix(".peerd")
    issue = f"issue another with `peerd certs issue --name {node}`"
    if facts.error is not None or facts.begins is None or facts.ends is None:
        return failed(subject, f"{facts.error}", "see --tls-ca, --tls-cert and --tls-key")
    if not facts.keyed:
        return failed(subject, f"--tls-key is not the key of {facts.file}", "give the key that was made with it")
    if not facts.trusted:
        return failed(subject, f"{facts.file} is not signed by the CA of --tls-ca", issue + " from the cluster's CA")
    if facts.wanted_name not in facts.names:
        names = ", ".join(facts.names) or "nobody"
        return failed(subject, f"{facts.file} is for {names}, and members expect {facts.wanted_name}", issue)
    if now >= facts.ends:
        return failed(subject, f"{facts.file} ended on {facts.ends:%Y-%m-%d}", issue)
    if now < facts.begins:
        return failed(subject, f"{facts.file} begins on {facts.begins:%Y-%m-%d}", "set this machine's clock")
    days = (facts.ends - now).days
    if days < _CERTIFICATE_DAYS_MIN:
        return warning(subject, f"{facts.file} ends on {facts.ends:%Y-%m-%d}, in {days} days", issue)
    return ok(subject, f"{facts.file} for {facts.wanted_name}, until {facts.ends:%Y-%m-%d}")


def check_clock(facts: ClockFacts) -> Finding:
    """Whether times of certificates and tokens mean the same here as elsewhere."""
    seen = f"{facts.now:%Y-%m-%d %H:%M:%S} UTC"
    if facts.synchronised is None:
        return ok("clock", f"{seen}; the kernel does not say whether something keeps it right")
    if not facts.synchronised:
        return warning("clock", f"{seen}, and nothing keeps it right", "run chrony or systemd-timesyncd")
    return ok("clock", f"{seen}, kept right")


def check_disk(facts: DiskFacts) -> Finding:
    """Whether the cache can grow to what it may."""
    subject = "disk"
    if facts.error is not None:
        return failed(subject, facts.error, "give --cache-dir a folder on local disk that peerd may write to")
    seen = f"{facts.folder} has {_gib(facts.free_bytes)} free, the cache {_gib(facts.used_bytes)} of {_gib(facts.quota_bytes)}"
    if facts.free_bytes < min(_FREE_BYTES_MIN, facts.quota_bytes):
        return failed(subject, seen, "free some, or give a smaller --cache-size")
    if facts.free_bytes < facts.quota_bytes - facts.used_bytes:
        return warning(subject, seen, "free some, or give a smaller --cache-size: the cache can not grow to it")
    return ok(subject, seen)


def _no_mirrors() -> Finding:
    return ok("mirrors", "no registry is to be mirrored (--hosts)")


def _config_path_lines(facts: ConfigFacts, version: int) -> tuple[str, str]:
    return plugin_section(version), f'  config_path = "{facts.mirror_folder}"'


def _version(text: str) -> tuple[int, ...]:
    """The leading numbers: `1.6.20~ds1` is (1, 6)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"

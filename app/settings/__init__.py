"""Every option in one place: what it is called, what it may be, what it is when nobody says, and where it comes from.

All rooms may import this; it imports none of them.
"""

from app.settings.loading import SettingsError, load_settings
from app.settings.options import (
    CacheOptions,
    ClusterOptions,
    ContainerdOptions,
    DoorOptions,
    LogOptions,
    Settings,
    TlsFiles,
    TransferOptions,
    TrustOptions,
    UpstreamOptions,
)
from app.settings.values import Address, JoinTarget, MirroredRegistry, RegistryLocation

__all__ = [
    "Address",
    "CacheOptions",
    "ClusterOptions",
    "ContainerdOptions",
    "DoorOptions",
    "JoinTarget",
    "LogOptions",
    "MirroredRegistry",
    "RegistryLocation",
    "Settings",
    "SettingsError",
    "TlsFiles",
    "TransferOptions",
    "TrustOptions",
    "UpstreamOptions",
    "load_settings",
]

"""peerd: nodes of a cluster take image layers and files from each other."""

__version__ = "0.1.0"

"""The messages as protobuf: `gossip.proto` and what is compiled from it. Only `messages.py` looks in here."""

"""The node's containerd: its content store as a source, and the files that tell it to ask peerd first.

containerd needs no patch and no restart, and whatever happens in here, it can pull as if peerd were not there.
"""

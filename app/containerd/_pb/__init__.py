"""Messages of containerd's API, generated from the `.proto` files beside them; never edited.

Only messages and fields that are used, under containerd's own package names and field numbers.
"""

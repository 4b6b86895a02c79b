"""A client of one node's doors, as the commands use it: /api/v1 to ask and tell, /v2 and /blobs to fetch and verify.

Blocking, for threads; nothing of the server is imported but the shapes of its answers.
"""

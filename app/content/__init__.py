"""The heart: content keys, byte ranges, the chunk cache, and the one reader behind both doors.

No FastAPI, no HTTP client and no gossip in here: the reader knows its sources by `source.py` alone, so it runs in a test
with three fakes.
"""

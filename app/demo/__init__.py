"""A cluster on one machine that shows what peerd does: nodes as processes, a registry and images of its own, and a table.

It starts the program as a user would, talks to it as clients do, and believes only what it checked itself.
"""

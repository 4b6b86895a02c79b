"""Metrics and logs. May be imported by all, imports none of the rooms."""

"""A node looked at as an operator would, and told what to do.

Facts are gathered in one place and judged in another: `observe` asks this machine, containerd and the node; `checks` are pure
functions from facts to findings, so that each fault that is known is a test.
"""

from app.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict"]

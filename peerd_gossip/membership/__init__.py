"""Who is alive: engines that find it out, behind one interface.

`SerfMembership` has a Serf agent do it (SWIM with Lifeguard) and is meant for clusters; `StaticMembership` greets the
members of a list, or those that a DNS name resolves to, and whomever these know, and is enough for a laptop and for
some dozens of nodes.
"""

from peerd_gossip.membership.interface import Greeter, Membership, Report
from peerd_gossip.membership.serf import SerfConfig, SerfMembership
from peerd_gossip.membership.serf_agent import read_key
from peerd_gossip.membership.static import StaticMembership

__all__ = ["Greeter", "Membership", "Report", "SerfConfig", "SerfMembership", "StaticMembership", "read_key"]

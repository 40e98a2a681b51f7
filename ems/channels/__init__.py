"""How setpoints reach building controllers, and how what they answer is kept.

`Channels` is the whole face: the service offers it what it journalled. A channel (MQTT, webhook, BACnet) only carries;
`Ledger` judges and keeps acknowledgements, whichever way they came. Controllers that ask over HTTP need no channel.
"""

from ems.channels.board import in_force
from ems.channels.hub import Channels, withheld
from ems.channels.ledger import Ledger, Verdict
from ems.channels.opening import opener

__all__ = ["Channels", "Ledger", "Verdict", "in_force", "opener", "withheld"]

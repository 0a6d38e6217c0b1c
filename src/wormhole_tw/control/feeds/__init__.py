"""How edges learn of each other's sessions: each module is one :class:`~wormhole_tw.control.interfaces.IFeed`."""

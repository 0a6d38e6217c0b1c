"""Where configuration comes from: each module is one :class:`~wormhole_tw.control.interfaces.IStore`."""

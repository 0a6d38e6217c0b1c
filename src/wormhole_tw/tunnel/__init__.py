"""The shell round ``wire/``: links over any transport, their streams as transports, endpoints that dial one."""

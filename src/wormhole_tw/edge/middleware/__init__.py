"""How the edge runs middleware: loading it, the chain of a request, and the way from its end to the service."""

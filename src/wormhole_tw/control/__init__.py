"""What should be (configuration, catalog, tokens, stores) and who is here (registry, feeds)."""

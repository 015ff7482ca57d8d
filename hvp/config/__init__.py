"""The public configuration in code: resolvers, checks, digests, settings."""

"""The light client: denoisers, the sampler loop, volumes."""

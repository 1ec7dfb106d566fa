"""Libraries of RVEs: many volumes, made by many workers, every one accounted for."""

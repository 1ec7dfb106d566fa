"""Training of denoisers on 2D micrographs, in plain torch."""

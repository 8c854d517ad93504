"""Models behind one protocol; see `base`."""

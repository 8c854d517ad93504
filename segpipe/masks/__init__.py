"""Masks as data: run-length codes, label images, and the projection of one to the other."""

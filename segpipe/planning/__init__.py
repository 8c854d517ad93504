"""From a collection to chunks: pure decisions, made before any pixel is read."""

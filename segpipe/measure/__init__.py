"""Numbers about masks: properties of objects, agreement with a truth."""

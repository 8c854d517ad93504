"""Files that set up the nights of a collection, and checks of what they need on this machine."""

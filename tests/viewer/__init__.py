"""The viewer, with a real server and a real browser."""

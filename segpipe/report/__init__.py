"""Results for people: pictures."""

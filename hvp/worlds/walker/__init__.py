"""The synthetic walker world."""

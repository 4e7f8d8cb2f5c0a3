"""Models: where they come from, what they are made of, how they are changed, run and trained."""

"""Models as bytes: coders, the packed file, and files that users bring."""

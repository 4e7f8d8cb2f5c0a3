"""What all pages share; the only code that touches widgets, caches and the session."""

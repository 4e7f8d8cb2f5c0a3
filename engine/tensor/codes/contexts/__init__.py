"""The adaptive model behind the context coder: compiled loops, mixed bits, and what they look at."""

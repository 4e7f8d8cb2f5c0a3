"""slimscope's engine: compression of neural networks as pure functions over frozen data."""

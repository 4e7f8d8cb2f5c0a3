"""The language model's page: a text goes on at several widths of the weights, and is read again."""

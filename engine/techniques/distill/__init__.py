"""Techniques that train: fine-tuning and learning from a teacher."""

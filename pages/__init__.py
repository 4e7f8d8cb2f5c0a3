"""The pages of slimscope: one file per question that a visitor asks."""

"""Background work: processes, tasks, results on disk, and models too large for every move."""

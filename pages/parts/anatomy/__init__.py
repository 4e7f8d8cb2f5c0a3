"""The picture of a model: where its boxes stand, what colours them, and how a click chooses a layer."""

"""Pure tensor mathematics: nothing here knows of models, recipes or data."""

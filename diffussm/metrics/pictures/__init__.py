"""Pictures of samples: sheets with the names of their classes and the nearest images of the training set."""

"""The evaluation of a model, of a run's milestone or in a folder: samples, a sheet and a record."""

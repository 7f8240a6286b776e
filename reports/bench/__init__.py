"""Tables and figures from stored benchmark runs."""

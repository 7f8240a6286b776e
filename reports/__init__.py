"""Tables and figures from records and published numbers. Reads files, computes no metric, loads no torch."""

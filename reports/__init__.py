"""Tables and figures from records and published numbers. It reads files only: it computes no metric and needs no
torch."""

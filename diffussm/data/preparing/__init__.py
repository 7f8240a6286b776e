"""Making of prepared data sets: what is taken (`selection`), how (`shards`, `processes`), where until all is done
(`partial`), and all of it together (`prepare`)."""

"""Files that state the SHA-256 of their own content, checked when they are read.

The digest stands in the file itself, so that both are written at once and moved together. It is that of the file with
64 zeros in the digest's place.
"""

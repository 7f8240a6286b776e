"""The comment at the end of a zip archive, where a checkpoint has its stamp: `torch.load` reads such a file as any."""

import struct

END = b"PK\x05\x06"  # begins the record that ends an archive; its last field is the length of the comment
END_BYTES = 22
MAX_COMMENT = (1 << 16) - 1


def with_comment(tail: bytes, comment: bytes) -> bytes:
    """Return the last bytes of an archive without a comment with this one added."""
    assert tail[-END_BYTES:].startswith(END)
    return tail[:-2] + struct.pack("<H", len(comment)) + comment


def comment(tail: bytes) -> bytes:
    """Return the comment in the last bytes of an archive; raise ValueError if they do not end one."""
    start = tail.rfind(END)
    if start < 0 or start + END_BYTES > len(tail):
        raise ValueError("the end of the archive is missing")
    (length,) = struct.unpack("<H", tail[start + END_BYTES - 2 : start + END_BYTES])
    if start + END_BYTES + length != len(tail):
        raise ValueError("the end of the archive is not valid")
    return tail[start + END_BYTES :]

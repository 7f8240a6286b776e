"""What can only be shown in full size: `make test-full-size`."""

"""Problem in, verified dispatch out. Knows no device and no database."""

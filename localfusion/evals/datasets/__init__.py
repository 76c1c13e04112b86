"""Data sets: one reader of a public file's format, or one generator, per file."""

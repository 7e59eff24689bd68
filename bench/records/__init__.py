"""What is on disk: rows, run directories, and the rules by which they are read again."""

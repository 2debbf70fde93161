"""Side-by-side measurements: each file is one comparison and reads from top to bottom."""

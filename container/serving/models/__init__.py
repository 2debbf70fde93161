"""What answers: one model that is loaded, a table of many, or a script of the user's own."""

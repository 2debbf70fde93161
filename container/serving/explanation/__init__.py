"""Why the network answers as it does: which parts of an image speak for a class."""

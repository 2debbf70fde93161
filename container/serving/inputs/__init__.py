"""What a request holds: images as they were sent, in every form that they come in."""

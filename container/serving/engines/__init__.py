"""What runs the network, who has a turn at it, and batches where they help."""

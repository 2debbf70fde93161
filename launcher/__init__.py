"""What runs on your machine. Knows AWS and Docker; never torch, and nothing of /opt/ml's inside."""

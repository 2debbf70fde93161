"""What runs in the image. Knows /opt/ml, torch and Flask; never boto3, never the launcher."""

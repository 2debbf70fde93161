"""A stand-in for Amazon SageMaker: the same requests and answers, done on this machine."""

"""The commands of `launch.py`: each reads its options, calls stages, says what comes next."""

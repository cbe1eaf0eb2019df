"""Speed, always as a ratio of two things that are timed in turn in one run."""

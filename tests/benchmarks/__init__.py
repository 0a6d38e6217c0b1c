"""The benchmark suite: that it measures what it says and leaves nothing behind. Nothing here asserts a speed."""

"""People over time: ids, filtered poses, and what is remembered of each one's shape."""

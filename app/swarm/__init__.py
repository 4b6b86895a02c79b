"""Who is asked for a chunk, in what order, and what a member answers another."""

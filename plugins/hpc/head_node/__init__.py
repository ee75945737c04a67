"""Step 6: the head node's address and pinned key, one SSH session, and the one asker that all waiting tasks share."""

"""What a cluster, or what is left of one, costs."""

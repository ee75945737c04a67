"""Steps 1 to 5 and 13: AWS ParallelCluster makes the cluster, CloudFormation is waited for, and the end is proven."""

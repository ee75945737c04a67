"""Step 10: the CloudWatch alarms, dashboard and logs of a cluster."""

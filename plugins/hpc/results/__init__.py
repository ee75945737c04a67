"""Steps 11 and 12: results to S3 and on-premises with a receipt that proves it, and pictures."""

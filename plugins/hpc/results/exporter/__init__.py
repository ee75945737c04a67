"""The export program, which is sent to the head node and runs there: `program` and what it takes."""

"""Steps 7 to 9: a job is submitted once, its allocation is waited for, and its end is known from its own record."""

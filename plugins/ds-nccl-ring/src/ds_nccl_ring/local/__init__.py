"""Between the ranks of one host, through shared memory."""

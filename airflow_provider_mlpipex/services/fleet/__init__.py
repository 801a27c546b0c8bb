"""What the health page shows of all endpoints, and of one."""

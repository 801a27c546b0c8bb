"""What a manifest's numbers can decide before anything runs: alpha shared, power, schedules, proofs, the plan."""

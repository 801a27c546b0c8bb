"""Evidence: what gates judge, measured offline, on live traffic, on pairs, on features and on past rollouts."""

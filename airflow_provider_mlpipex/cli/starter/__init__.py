"""What ``mlpipex init`` writes: these very files, under the name that is asked for. They run as they stand."""

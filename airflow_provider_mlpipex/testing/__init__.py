"""In-memory fakes of every port. They pass the same contract tests as the adapters that they stand for."""

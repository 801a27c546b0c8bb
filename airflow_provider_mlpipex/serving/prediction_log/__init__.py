"""The log of every prediction: written by the model servers, read for pairs, samples and late labels."""

"""The run folder and its stages: record, score, select, train."""

"""record -> score -> select -> check: the run folder and the verbs that fill it."""

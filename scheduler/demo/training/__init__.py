"""`make demo-train`: a training whose result does not depend on where, how often or on how many workers it ran."""

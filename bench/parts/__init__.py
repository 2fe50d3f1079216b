"""The parts of bench/daemon.py: each measures one promise of a whole daemon, from outside, over its socket."""

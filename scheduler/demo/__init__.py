"""`dsched demo`: a real job, a real notice, a real kill, and what it cost. Nothing in its summary is typed in."""

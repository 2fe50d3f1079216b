"""`make demo-clouds`: a job is interrupted on AWS and goes on at Google. Both clouds are fakes, the rest is real."""

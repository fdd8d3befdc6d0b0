"""What adapters share: frames, signatures of estimators, unpickling, users' code. They do not know each other."""

"""What is done to a subject in a trial: the experiments, and the parts that trials are made of."""

"""What is done: trainings, what each party really has of some images, and one attack on it after another."""

"""What leaves the house: other servers' formats of a checkpoint, and its model card."""

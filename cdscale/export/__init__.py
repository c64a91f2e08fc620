"""What a run hands on: its report."""

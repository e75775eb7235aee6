"""What a model is and what training it costs, counted before anything is paid."""

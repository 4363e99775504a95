"""Request + media -> the prompt as the model reads it: template, processor, placeholders, receipts."""

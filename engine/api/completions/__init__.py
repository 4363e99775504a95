"""OpenAI's text completions: https://platform.openai.com/docs/api-reference/completions"""

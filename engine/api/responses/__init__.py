"""OpenAI's Responses API over the same engine: https://platform.openai.com/docs/api-reference/responses"""

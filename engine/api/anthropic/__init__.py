"""Anthropic's Messages API over the same engine: https://docs.claude.com/en/api/messages"""

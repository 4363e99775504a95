"""Ollama's API over the same engine, at the root of the port: https://docs.ollama.com/api"""

"""OpenAI's /v1 routes over one Engine. Needs FastAPI; knows nothing of Gradio."""

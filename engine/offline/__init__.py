"""The engine for scripts and notebooks: classes whose calls wait for their answers (`from engine import LLM`)."""

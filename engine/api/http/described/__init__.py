"""What each route answers, as schemas for the document. Nothing is made of them: tests/engine/api/http/test_openapi.py
holds real answers against them, with every field."""

from __future__ import annotations

from typing import Any

from engine.api.http.described import batches, decisions, openai, protocols, requests, server

ANSWERS: dict[tuple[str, str], Any] = {
    ("get", "/health"): server.HealthSchema,
    ("get", "/health/live"): server.ProbeSchema,
    ("get", "/health/ready"): server.ProbeSchema,
    ("get", "/v1/logs"): server.LogSchema,
    ("get", "/v1/server"): server.ServerProcessSchema,
    ("post", "/v1/server/restart"): server.ServerProcessSchema,
    ("get", "/v1"): server.IndexSchema,
    ("get", "/v1/models"): server.ModelsSchema,
    ("get", "/v1/models/{name}"): server.ModelSchema,
    ("post", "/v1/models/load"): server.ModelSchema,
    ("post", "/v1/models/unload"): server.ModelSchema,
    ("post", "/v1/models/pull"): server.PulledSchema,
    ("get", "/v1/cache/stats"): server.CacheStatsSchema,
    ("get", "/v1/cache/blocks"): server.BlocksSchema,
    ("get", "/v1/cache/features"): server.FeaturesSchema,
    ("post", "/v1/cache/clear"): server.CacheStatsSchema,
    ("post", "/v1/cache/blocks/{key}/{action}"): server.CacheChangeSchema,
    ("post", "/v1/cache/features/{key}/{action}"): server.CacheChangeSchema,
    ("post", "/v1/cache/replay/{request_id}"): server.ReplaySchema,
    ("get", "/v1/requests"): requests.LoggedListSchema,
    ("get", "/v1/requests/{request_id}"): requests.LoggedRequestSchema,
    ("post", "/v1/tokenize"): server.TokenizeSchema,
    ("post", "/tokenize"): server.TokenizeSchema,
    ("post", "/v1/detokenize"): server.DetokenizeSchema,
    ("post", "/detokenize"): server.DetokenizeSchema,
    ("post", "/v1/chat/completions"): openai.ChatCompletionSchema,
    ("post", "/v1/completions"): openai.TextCompletionSchema,
    ("post", "/v1/embeddings"): openai.EmbeddingsSchema,
    ("post", "/v1/rerank"): openai.RerankSchema,
    ("post", "/v1/decisions"): decisions.DecisionsSchema,
    ("post", "/v1/systemone"): decisions.SystemOneSchema,
    ("post", "/v1/responses"): protocols.ResponseSchema,
    ("get", "/v1/responses/{response_id}"): protocols.ResponseSchema,
    ("delete", "/v1/responses/{response_id}"): protocols.DeletedResponseSchema,
    ("get", "/v1/responses/{response_id}/input_items"): protocols.InputItemsSchema,
    ("post", "/v1/responses/input_tokens"): protocols.ResponseTokensSchema,
    ("post", "/v1/messages"): protocols.AnthropicMessageSchema,
    ("post", "/v1/messages/count_tokens"): protocols.MessageTokensSchema,
    ("post", "/v1/audio/transcriptions"): openai.TranscriptionSchema,
    ("post", "/v1/files"): batches.FileSchema,
    ("get", "/v1/files"): batches.FilesSchema,
    ("get", "/v1/files/{file_id}"): batches.FileSchema,
    ("delete", "/v1/files/{file_id}"): batches.DeletedFileSchema,
    ("post", "/v1/batches"): batches.BatchObjectSchema,
    ("get", "/v1/batches"): batches.BatchesSchema,
    ("get", "/v1/batches/{batch_id}"): batches.BatchObjectSchema,
    ("post", "/v1/batches/{batch_id}/cancel"): batches.BatchObjectSchema,
    ("post", "/api/chat"): protocols.OllamaChatSchema,
    ("post", "/api/generate"): protocols.OllamaTextSchema,
    ("get", "/api/tags"): protocols.OllamaModelsSchema,
    ("get", "/api/ps"): protocols.OllamaModelsSchema,
    ("get", "/api/version"): protocols.OllamaVersionSchema,
    ("post", "/api/show"): protocols.OllamaShowSchema,
}
"""By method and path."""

ERRORS: tuple[tuple[str, Any], ...] = (
    ("/v1/messages", protocols.AnthropicErrorSchema),
    ("/api/", protocols.OllamaErrorSchema),
)
"""Of the paths that begin so; everywhere else it is OpenAI's (engine.api.http.described.document.ErrorAnswer)."""

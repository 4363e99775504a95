"""OpenAI's /v1 routes over one Engine. Needs FastAPI; knows nothing of Gradio.

app      create_app: routes, guards, error shapes
guard    who may ask: API keys, body limit, host names
routes   the routes; each turns JSON into a Request, reads Engine.stream, turns events into JSON
schemas  the JSON that is read, and the words for what is wrong with it
convert  JSON -> Request (pure)         answers  events -> JSON (pure)
sse      server-sent events; noticing that a client has gone
server   the port and uvicorn
"""

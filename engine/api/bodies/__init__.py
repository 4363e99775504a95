"""The JSON of requests, whatever the protocol: fields and their bounds, parts of messages, tools, what is refused."""

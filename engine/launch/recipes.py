"""The programs that `vllm-mlx launch` knows. tests/engine/launch/ reads back what each recipe writes and takes it away
again; what is started there are stand-ins for the programs."""

from __future__ import annotations

from engine.launch.recipe import Item, Place, Recipe, Setting, SettingsFile

ID = "mlx-workbench"
TITLE = "MLX Workbench"
XDG = "XDG_CONFIG_HOME"

OPEN_WEBUI = Recipe(
    name="open-webui",
    title="Open WebUI",
    command=("open-webui", "serve"),
    install="pip install open-webui",
    # https://docs.openwebui.com/reference/env-configuration
    files=(
        SettingsFile(
            Place("open-webui.env", "~/.config/mlx-workbench", ((XDG, ID),)),
            "env",
            (
                Setting(("ENABLE_OPENAI_API",), "true"),
                Setting(("OPENAI_API_BASE_URL",), "{base_url}"),
                Setting(("OPENAI_API_KEY",), "{some_key}"),
                Setting(("ENABLE_OLLAMA_API",), "false"),
            ),
        ),
    ),
    note="Open WebUI reads these at its first start only (docker run --env-file FILE). One that was started before "
    "has its own, under Settings > Connections.",
)

CONTINUE = Recipe(
    name="continue",
    title="Continue",
    command=("cn",),
    install="npm install -g @continuedev/cli, or the extension Continue of VS Code or JetBrains",
    # https://docs.continue.dev/reference
    files=(
        SettingsFile(
            Place("config.yaml", "~/.continue", (("CONTINUE_GLOBAL_DIR", ""),)),
            "yaml",
            (
                Setting(("name",), "Local config", is_default=True),
                Setting(("version",), "1.0.0", is_default=True),
                Setting(("schema",), "v1", is_default=True),
                Setting(
                    ("models", Item("name", TITLE)),
                    {
                        "name": TITLE,
                        "provider": "openai",
                        "model": "{model}",
                        "apiBase": "{base_url}",
                        "apiKey": "{some_key}",
                        "roles": ["chat", "edit", "apply"],
                        "capabilities": "{continue_capabilities}",
                    },
                ),
            ),
        ),
    ),
)

CODEX = Recipe(
    name="codex",
    title="Codex",
    command=("codex", "--profile", ID),
    install="npm install -g @openai/codex",
    # https://developers.openai.com/codex/config-reference. Profiles are files of their own since 0.134.
    files=(
        SettingsFile(
            Place("config.toml", "~/.codex", (("CODEX_HOME", ""),)),
            "toml",
            (
                Setting(
                    ("model_providers", ID),
                    {
                        "name": TITLE,
                        "base_url": "{base_url}",
                        "wire_api": "responses",
                        "experimental_bearer_token": "{api_key}",
                    },
                ),
            ),
        ),
        SettingsFile(
            Place(f"{ID}.config.toml", "~/.codex", (("CODEX_HOME", ""),)),
            "toml",
            (
                Setting(("model",), "{model}"),
                Setting(("model_provider",), ID),
                Setting(("model_context_window",), "{context_tokens}"),
                # Tools of OpenAI's own, which only its servers run.
                Setting(("web_search",), "disabled"),
                Setting(("agents", "enabled"), False),
            ),
        ),
    ),
    note=f"Without --profile {ID} Codex goes on as it was.",
)

CLAUDE_CODE = Recipe(
    name="claude-code",
    title="Claude Code",
    command=("claude",),
    install="npm install -g @anthropic-ai/claude-code",
    # https://docs.claude.com/en/docs/claude-code/settings
    files=(
        SettingsFile(
            Place("settings.json", "~/.claude", (("CLAUDE_CONFIG_DIR", ""),)),
            "json",
            (
                Setting(("env", "ANTHROPIC_BASE_URL"), "{root_url}"),
                Setting(("env", "ANTHROPIC_AUTH_TOKEN"), "{some_key}"),
                Setting(("env", "ANTHROPIC_MODEL"), "{model}"),
                Setting(("env", "ANTHROPIC_DEFAULT_OPUS_MODEL"), "{model}"),
                Setting(("env", "ANTHROPIC_DEFAULT_SONNET_MODEL"), "{model}"),
                Setting(("env", "ANTHROPIC_DEFAULT_HAIKU_MODEL"), "{model}"),
                Setting(("env", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"), "1"),
            ),
        ),
    ),
    note="Claude Code asks this port from now on, until --undo.",
)

OPENCODE = Recipe(
    name="opencode",
    title="OpenCode",
    command=("opencode", "--model", ID + "/{model}"),
    install="npm install -g opencode-ai",
    # https://opencode.ai/docs/providers
    files=(
        SettingsFile(
            Place("opencode.json", "~/.config/opencode", ((XDG, "opencode"),)),
            "json",
            (
                Setting(("$schema",), "https://opencode.ai/config.json", is_default=True),
                Setting(
                    ("provider", ID),
                    {
                        "npm": "@ai-sdk/openai-compatible",
                        "name": TITLE,
                        "options": {"baseURL": "{base_url}", "apiKey": "{some_key}"},
                        "models": {
                            "{model}": {
                                "name": "{model}",
                                "attachment": "{sees}",
                                "tool_call": True,
                                "limit": {"context": "{context_tokens}", "output": "{answer_tokens}"},
                                "modalities": {"input": "{modalities}", "output": ["text"]},
                            }
                        },
                    },
                ),
            ),
        ),
    ),
    note=f"Choose the model {TITLE} in OpenCode, or start it with --model.",
)

_LLM_FOLDER = {
    "folder": "~/.config/io.datasette.llm",
    "variables": (("LLM_USER_PATH", ""), (XDG, "io.datasette.llm")),
    "mac_folder": "~/Library/Application Support/io.datasette.llm",
}

LLM = Recipe(
    name="llm",
    title="llm",
    command=("llm", "chat", "--model", ID),
    install="pip install llm",
    # https://llm.datasette.io/en/stable/other-models.html#openai-compatible-models
    files=(
        SettingsFile(
            Place("extra-openai-models.yaml", **_LLM_FOLDER),  # type: ignore[arg-type]
            "yaml",
            (
                Setting(
                    (Item("model_id", ID),),
                    {
                        "model_id": ID,
                        "model_name": "{model}",
                        "api_base": "{base_url}",
                        "api_key_name": "{key_name}",
                        "vision": "{sees_or_none}",
                        "supports_schema": True,
                        "supports_tools": True,
                    },
                ),
            ),
        ),
        SettingsFile(
            Place("keys.json", **_LLM_FOLDER),  # type: ignore[arg-type]
            "json",
            (Setting((ID,), "{api_key}", is_secret=True),),
        ),
    ),
    note=f'For one question: llm --model {ID} "…", with a picture: --attachment FILE.',
)

RECIPES = {recipe.name: recipe for recipe in (OPEN_WEBUI, CONTINUE, CODEX, CLAUDE_CODE, OPENCODE, LLM)}

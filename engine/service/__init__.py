"""vllm-mlx service: the server as a service of this user's session, by systemd or launchd, and as an app of a Mac."""

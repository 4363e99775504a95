"""Somebody's conversations, in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.conversations.owned import OwnedConversations
from workbench.conversations.store import ConversationStore


@pytest.fixture
def mine(tmp_path: Path) -> OwnedConversations:
    return OwnedConversations(ConversationStore(None, tmp_path), "me")

"""The stories can be told again: each run leaves recordings that show what they should, hold nothing private and replay."""

from __future__ import annotations

import pytest

from tests.replay import recordings
from tests.replay.record import made, problems
from tests.replay.stories import STORIES

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_story_told_again_shows_the_same(story, tmp_path):
    for name, draft in made(story, tmp_path).items():
        assert problems(draft, name) == []


def test_every_story_is_in_the_table():
    assert {name for names in STORIES.values() for name in names} <= recordings.expected().keys()

"""Trees of JSON values: what a page shows of results of any size."""

from __future__ import annotations

from typing import Any

from nomaflow_console.views.json_tree import JsonTrees, in_one_line


def tree(value: Any) -> str:
    """Return a value as the first tree of a page."""
    return str(JsonTrees().tree(value))


def test_a_value_is_a_tree_whose_small_branches_are_open() -> None:
    """Keys and texts are escaped, controls and marks of direction spelled out."""
    told = tree({"<a>": ["\u202ex", None], "wide": list(range(13)), "none": {}, "n": 1.5})
    assert '<details open><summary><span class="quiet">&lt;a&gt;:</span> [2]</summary>' in told
    assert '<span class="quiet">0:</span> \\u202ex' in told
    assert '<details><summary><span class="quiet">wide:</span> [13]</summary>' in told
    assert '<span class="quiet">none:</span> {}' in told
    assert '<span class="quiet">n:</span> 1.5' in told
    assert tree("<b>") == "<span>&lt;b&gt;</span>"


def test_a_level_shows_its_first_entries_and_how_many_more_there_are() -> None:
    """At most 200 of each."""
    told = tree(list(range(100_201)))
    assert told.count("<li>") == 200
    assert "100,001 more" in told


def test_a_result_of_a_million_values_shows_two_thousand_of_them() -> None:
    """Each level of 200 lists of 200 lists is within its bound: all together were 20 MB of a page, and 20 s of work."""
    deep = {str(key): [[0] * 200 for _ in range(130)] for key in range(20)}
    told = tree({**deep, "last": "seen"})
    assert told.count("<li>") == 2_000
    assert '<span class="quiet">last:</span> seen' in told


def test_the_trees_of_a_page_share_a_bound() -> None:
    """A run may have a thousand steps; the tree after the last value says how many it has."""
    trees = JsonTrees()
    shown = [str(trees.tree([[0] * 100] * 100)) for _ in range(11)]
    assert [each.count("<li>") for each in shown] == [2_000] * 10 + [0]
    assert "100 more" in shown[-1]


def test_a_value_is_followed_for_some_levels_only() -> None:
    """Beyond them it is its number of entries."""
    value: Any = 1
    for _ in range(50):
        value = [value]
    assert tree(value).count("<details") == 12


def test_a_long_text_is_cut() -> None:
    """A tree has its first 4,000 characters; a line its first 300."""
    told = tree({"text": "x" * 1_000_000})
    assert "x" * 4_000 + " … 996,000 more characters" in told
    assert in_one_line({"a": "é\n", "b": [1, 2]}) == '{"a": "é\\n", "b": [1, 2]}'
    assert in_one_line({"a": ["x" * 500] * 1000}) == f'{{"a": ["{"x" * 292}…'

from __future__ import annotations

from db import tokens


def test_a_new_token_is_wellformed_and_never_the_same_twice() -> None:
    first, second = tokens.new_token(), tokens.new_token()

    assert tokens.is_wellformed(first)
    assert first != second
    assert len(first) == len("ik_sk_") + 43 + 6


def test_a_typo_anywhere_is_noticed_without_the_database() -> None:
    token = tokens.new_token()

    for place in range(len("ik_sk_"), len(token)):
        wrong = "a" if token[place] != "a" else "b"
        assert not tokens.is_wellformed(token[:place] + wrong + token[place + 1 :])


def test_what_is_not_one_of_ours_is_refused() -> None:
    assert not tokens.is_wellformed("")
    assert not tokens.is_wellformed("ik_sk_")
    assert not tokens.is_wellformed("sk-" + "a" * 50)
    assert not tokens.is_wellformed("ik_sk_" + "é" * 49)

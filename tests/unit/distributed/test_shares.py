"""Work is shared out whole, evenly, and in the same way every time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from penname.distributed.shares import cut_evenly, share_out


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(0, 500), max_size=40), num_shares=st.integers(1, 9))
def test_every_piece_is_in_one_share_and_no_share_is_far_larger_than_it_must_be(sizes, num_shares):
    shares = share_out(sizes, num_shares)
    assert len(shares) == num_shares
    assert sorted(place for share in shares for place in share) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(sizes[place] for place in share) for share in shares]
    # No schedule is shorter than the mean or the largest piece, nor than two pieces where there are more large ones than shares.
    by_size = sorted(sizes, reverse=True)
    best = max([sum(sizes) / num_shares, *by_size[:1], *([by_size[num_shares - 1] + by_size[num_shares]] if len(sizes) > num_shares else [])])
    assert max(loads) <= 4 / 3 * best or max(loads) <= max(by_size[:1], default=0) + sum(sizes) / num_shares
    assert share_out(sizes, num_shares) == shares


def test_a_draw_smaller_than_the_ranks_leaves_shares_empty():
    assert share_out([7, 3], 4) == [[0], [1], [], []]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(num_pieces=st.integers(0, 300), num_parts=st.integers(1, 12), at_least=st.integers(1, 50))
def test_parts_are_whole_and_even(num_pieces, num_parts, at_least):
    parts = cut_evenly(num_pieces, num_parts, at_least=at_least)
    assert [place for part in parts for place in part] == list(range(num_pieces))
    assert len(parts) <= num_parts or num_pieces == 0
    assert all(len(part) >= at_least for part in parts[:-1])
    assert len({len(part) for part in parts[:-1]}) <= 1

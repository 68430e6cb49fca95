import random

from penname.generate.decode import Decoded, Request
from penname.generate.lookahead import Lookahead

LAST = 5


def request(place, draw=1):
    return Request((place, draw), (1, 2, place))


def next_draw(one):
    place, draw = one.key
    return request(place, draw + 1) if draw < LAST else None


def text(one):
    return Decoded(list(one.key), "stop")


def test_the_nearest_draws_of_all_texts_come_first():
    ahead = Lookahead(next_draw)
    texts = [(3, request(0)), (4, request(1, LAST)), (5, request(2, 2))]
    assert ahead.propose(texts, 3) == [(3, request(0, 2)), (5, request(2, 3)), (3, request(0, 3))]
    assert ahead.is_running(request(0, 2))
    assert not ahead.is_running(request(0))
    # What is being written is not proposed again, and a text that is ahead is nobody's beginning.
    texts += [(6, request(0, 2)), (7, request(2, 3)), (8, request(0, 3))]
    assert ahead.propose(texts, 10) == [(5, request(2, 4)), (3, request(0, 4)), (5, request(2, 5)), (3, request(0, 5))]
    assert ahead.propose(texts, 10) == []


def test_without_a_next_draw_nothing_is_ahead():
    ahead = Lookahead(lambda _: None)
    assert ahead.propose([(0, request(0))], 4) == []
    assert ahead.finish(request(0), text(request(0)), lambda one, _: request(0, 2)) == (request(0, 2), set())


def test_what_is_finished_ahead_waits_until_it_is_asked_for_and_the_rest_is_dropped():
    ahead, shown = Lookahead(next_draw), []
    ahead.propose([(0, request(0))], 4)

    def take(one, written):
        assert written == text(one)
        shown.append(one.key[1])
        return None if one.key[1] == 3 else next_draw(one)

    assert ahead.finish(request(0, 3), text(request(0, 3)), take) == (None, set())
    assert ahead.finish(request(0, 2), text(request(0, 2)), take) == (None, set())
    assert shown == []
    # Draw 3 is taken: draws 4 and 5 are being written for nobody.
    assert ahead.finish(request(0), text(request(0)), take) == (None, {(0, 4), (0, 5)})
    assert shown == [1, 2, 3]


def test_a_draw_that_is_asked_for_while_it_is_written_is_an_ordinary_text_from_then_on():
    ahead, shown = Lookahead(next_draw), []
    ahead.propose([(0, request(0))], 1)

    def take(one, _):
        shown.append(one.key[1])
        return next_draw(one) if one.key[1] == 1 else None

    assert ahead.finish(request(0), text(request(0)), take) == (None, set())
    assert shown == [1]
    assert ahead.propose([(1, request(0, 2))], 1) == [(1, request(0, 3))]
    assert ahead.finish(request(0, 2), text(request(0, 2)), take) == (None, {(0, 3)})
    assert shown == [1, 2]


def test_in_any_order_each_record_gets_its_draws_in_theirs_and_nothing_is_left():
    chance = random.Random(3)
    for _ in range(200):
        ahead, shown = Lookahead(next_draw), {}
        needed = [chance.randint(1, LAST + 1) for _ in range(4)]
        running = {one.key: one for one in map(request, range(4))}

        def take(one, written, shown=shown, needed=needed):
            place, draw = one.key
            shown.setdefault(place, []).append(draw)
            assert written == text(one)
            return next_draw(one) if draw < needed[place] else None

        while running:
            for _, one in ahead.propose(enumerate(running.values()), chance.randint(0, 4)):
                assert one.key not in running
                running[one.key] = one
            one = running.pop(chance.choice(list(running)))
            again, dropped = ahead.finish(one, text(one), take)
            for key in dropped:
                del running[key]
            if again is not None:
                assert again.key not in running
                running[again.key] = again
        assert shown == {place: list(range(1, min(count, LAST) + 1)) for place, count in enumerate(needed)}
        assert not ahead._running
        assert not ahead._finished

"""Personal data in synthetic text: what the generator invented, and what it replayed from training."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.privacy.exact_intervals import poisson_interval
from penname.evaluate.privacy.phrase_search import find_phrases
from penname.evaluate.samples import Row, RowSet, Samples

_STREET_KINDS = (
    "alley|avenue|ave|bayou|beach|bend|bluff|bottom|boulevard|blvd|branch|bridge|brook|burg|bypass|camp|canyon|cape|causeway|center|circle|cir|cliff|club|common|corner|"
    "corners|course|court|ct|cove|creek|crescent|crest|crossing|crossroad|curve|dale|dam|divide|drive|dr|estate|estates|expressway|extension|fall|"
    "falls|ferry|field|fields|flat|flats|ford|forest|forge|fork|fort|freeway|garden|gardens|gateway|glen|green|grove|harbor|haven|heights|highway|hwy|"
    "hill|hills|hollow|inlet|island|islands|isle|junction|key|knoll|lake|land|landing|lane|ln|light|loaf|lock|lodge|loop|mall|manor|meadow|meadows|"
    "mews|mill|mills|mission|motorway|mount|mountain|neck|orchard|oval|overpass|park|parkway|pkwy|pass|passage|path|pike|pine|pines|place|pl|plain|"
    "plains|plaza|point|points|port|ports|prairie|radial|ramp|ranch|rapid|rapids|rest|ridge|river|road|rd|route|row|rue|run|shoal|shoals|shore|shores|"
    "skyway|spring|springs|spur|spurs|square|sq|station|stravenue|stream|street|st|summit|terrace|throughway|trace|track|trail|trafficway|tunnel|"
    "turnpike|underpass|union|valley|via|viaduct|view|views|village|ville|vista|walk|wall|way|well|wells"
)
"""Of the United States Postal Service, publication 28, the commonest abbreviations included; each may end in s."""
_PATTERNS: dict[str, re.Pattern[str]] = {
    "email": re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])"),
    "card": re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-]|\.\d)"),
    "order_id": re.compile(r"(?<![\d-])\d{3}-\d{7}-\d{7}(?![\d-])"),
    "phone": re.compile(
        r"(?<![\d.$€£-])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}|\(\d{3}\) ?\d{3}[ .-]\d{4}|(?:1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4})(?![\d-]|\.\d)"
    ),
    "address": re.compile(
        rf"(?<![\w.$€£-])\d{{1,6}}[A-Za-z]? (?:(?:[NSEW]|North|South|East|West)\.? )?(?:[A-Z][\w'’-]*\.? ){{1,4}}(?i:(?:{_STREET_KINDS})s?)\b"
        r"(?:,? (?:(?i:apt|suite|unit)\.?|#) ?\w{1,6}\b)?"
    ),
}
PATTERN_KINDS = tuple(_PATTERNS)
"""What regular expressions find, of every language that writes it so."""
_MIN_PHONE_DIGITS, _MAX_PHONE_DIGITS = 8, 15
_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


@dataclass(frozen=True, slots=True)
class PersonalValue:
    """One value of one kind, written as it is compared. PRIVATE when it occurs in train."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class PersonalDataScan:
    """What one set of texts holds. PRIVATE."""

    invented: tuple[PersonalValue, ...]
    """Distinct values that stand nowhere in train."""
    replayed: tuple[PersonalValue, ...]
    """Distinct values that do: the ones that matter."""
    num_texts: int


def find_by_pattern(text: str) -> set[PersonalValue]:
    """Phones, cards (that pass Luhn's check), e-mail addresses, street addresses and order ids of one text.

    >>> sorted((found.kind, found.value) for found in find_by_pattern("Call 555-234-5678, mail A.B@x.org, 4111 1111 1111 1111"))
    [('card', '4111111111111111'), ('email', 'a.b@x.org'), ('phone', '5552345678')]

    Source: ISO/IEC 7812-1 annex B for cards; ITU-T E.164 for the length of phone numbers.
    """
    found: set[PersonalValue] = set()
    taken: list[tuple[int, int]] = []
    for kind in ("email", "order_id", "card", "phone", "address"):
        for match in _PATTERNS[kind].finditer(text):
            # An order id holds digits that could be a phone's; the first kind that fits has them.
            if any(match.start() < end and begin < match.end() for begin, end in taken) or not _is_plausible(kind, match.group()):
                continue
            taken.append(match.span())
            found.add(PersonalValue(kind, normalise_value(kind, match.group())))
    return found


def normalise_value(kind: str, value: str) -> str:
    """A value as it is compared: digits alone for numbers, case and spacing aside for the rest.

    >>> normalise_value("phone", "(555) 234-5678"), normalise_value("phone", "1-555-234-5678"), normalise_value("address", "12  Oak ST")
    ('5552345678', '5552345678', '12 oak st')
    """
    if kind in ("phone", "card", "order_id"):
        digits = "".join(char for char in value if char.isdigit())
        # A North American number with and without its country code is one number.
        return digits[1:] if kind == "phone" and len(digits) == 11 and digits[0] == "1" else digits
    return " ".join(value.casefold().split()).strip(".,;:!?'’\"")


def _is_plausible(kind: str, value: str) -> bool:
    digits = [int(char) for char in value if char.isdigit()]
    if kind == "card":
        checksum = sum(_LUHN_DOUBLED[digit] if i % 2 else digit for i, digit in enumerate(reversed(digits)))
        return len(set(digits)) > 1 and checksum % 10 == 0
    return kind != "phone" or _MIN_PHONE_DIGITS <= len(digits) <= _MAX_PHONE_DIGITS


def scan_patterns(texts: Sequence[str], train_texts: Sequence[str]) -> PersonalDataScan:
    """Sorts what the patterns find in texts into invented and replayed.

    Range, direction, reference: counts from 0; fewer replayed is better; the reference is what as many unseen real texts share with train.

    Args:
      texts: Synthetic, or unseen real ones. Title and text of a record are one text.
      train_texts: All that was trained on. PRIVATE.
    Returns:
      PersonalDataScan: sorted by kind and value. PRIVATE.
    """
    found = {value for text in texts for value in find_by_pattern(text)}
    in_train = {value for text in train_texts for value in find_by_pattern(text)}
    return _sort_out(found, found & in_train, len(texts))


def scan_names(texts: Sequence[str], train_texts: Sequence[str], *, find: Callable[[Sequence[str]], list[set[PersonalValue]]]) -> PersonalDataScan:
    """Sorts the names that a recogniser finds in texts into invented and replayed.

    Train is searched for those names word for word; the recogniser does not run over it, which would take hours on a large one.

    Args:
      texts: As in `scan_patterns`.
      train_texts: All that was trained on. PRIVATE.
      find: Texts to the values of each, such as `personal_names.NameFinder.find`.
    Returns:
      PersonalDataScan: sorted by kind and value. PRIVATE.
    """
    found = sorted({value for own in find(texts) for value in own}, key=_by_kind)
    folded = (" ".join(text.casefold().split()) for text in train_texts)
    places = find_phrases([value.value for value in found], folded)
    return _sort_out(set(found), {value for value, own in zip(found, places, strict=True) if own}, len(texts))


def _sort_out(found: set[PersonalValue], replayed: set[PersonalValue], num_texts: int) -> PersonalDataScan:
    return PersonalDataScan(tuple(sorted(found - replayed, key=_by_kind)), tuple(sorted(replayed, key=_by_kind)), num_texts)


def _by_kind(value: PersonalValue) -> tuple[str, str]:
    return value.kind, value.value


def join_title(row: Row) -> str:
    """Title and text of a row, as they are scanned."""
    return f"{row.title}\n{row.text}"


def estimate_replayed(samples: Samples, scan: Callable[[list[str], list[str]], PersonalDataScan]) -> list[Estimate]:
    """Distinct replayed values in sets of one size against all of train; the reference is what unseen real rows share with train. PRIVATE."""
    num = samples.num_compared
    train = [join_title(row) for row in samples.train.rows]

    def count(rows: RowSet) -> int:
        return len(scan([join_title(row) for row in samples.take(rows, num).rows], train).replayed)

    reference = count(samples.test)
    counts = {"real": reference, **{arm: count(rows) for arm, rows in samples.synthetic.items()}}
    return [Estimate(arm, float(own), poisson_interval(own), float(reference), num) for arm, own in counts.items()]


def _compute(samples: Samples) -> list[Estimate]:
    return estimate_replayed(samples, scan_patterns)


REPLAYED_PII = Metric(
    "replayed_pii_num",
    "privacy",
    "lower",
    (0.0, float("inf")),
    1,
    "phones, cards, e-mail and street addresses, order ids that stand in train (patterns of penname); ISO/IEC 7812-1; Garwood (1936)",
    _compute,
)

"""The metrics as the page shows them: one row a metric, one cell an arm, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penname.report.figures import CONDITIONS
from penname.schemas import FAMILIES, MetricResult

FAMILY_INTROS = {
    "privacy": "Does the synthetic text repeat what only the training data holds? These tests look for leaks; passing them proves "
    "nothing. The guarantee is the epsilon above.",
    "fidelity": "How close is the synthetic text, as a whole, to real reviews?",
    "utility": "Can the synthetic reviews do the work of real ones?",
    "human": "What do people see when they read it?",
}

# The longest prefix wins: a suffix on a metric's name says which variant it is.
_LABELS = {
    "attribute_inference_excess_category": "Category guessed from a known review, less for held-out people",
    "abrupt_ending_frac": "Ends abruptly",
    "attack_auroc": "Membership attack, AUROC",
    "c2st_auroc": "Told apart from real, AUROC",
    "canary_leaks_num": "Canaries found in the output",
    "closer_to_train_frac": "Closer to training than to held-out data",
    "downstream_llm_accuracy_score": "Language model tuned on it, accuracy on real reviews",
    "epsilon_lower_bound": "Audited lower bound on epsilon",
    "exposure_bits": "Canary exposure, bits",
    "linkability_excess": "Title and review linked, less for held-out people",
    "longest_common_substring_mean": "Longest stretch copied from training data, characters (mean)",
    "near_duplicate_frac": "Nearly a training review",
    "ngram_overlap_frac_13_words": "Phrases of 13 words shared with training data",
    "feature_importance_jaccard_score": "Same words matter (Jaccard)",
    "frechet_distance": "Distance of embeddings (Fréchet)",
    "jensen_shannon_divergence": "Difference of word frequencies (Jensen–Shannon)",
    "majority_accuracy_score": "Always guessing the commoner answer: accuracy",
    "mauve_score": "MAUVE",
    "nearest_neighbour_cosine_score": "Likeness to the nearest real review (cosine)",
    "ngram_overlap_excess": "Phrases shared with training, less held-out, data",
    "ngram_overlap_frac": "Phrases shared with training data",
    "non_text_frac": "Is not text",
    "repeated_frac": "Repeats itself",
    "replayed_pii_num": "Personal data replayed from training",
    "sentences_per_review_wasserstein_distance": "Difference of sentences in a review (Wasserstein)",
    "singling_out_excess": "One person singled out by two words, less for held-out people",
    "tpr_at_fpr": "Membership attack, hits at few false alarms",
    "tstr_": "Trained on it, tested on real reviews",
    "tstr_accuracy_score": "Trained on it, tested on real reviews: accuracy",
    "tstr_macro_f1_score": "Trained on it, tested on real reviews: macro F1",
    "well_formed_frac": "Well-formed reviews",
    "words_per_review_mean": "Words in a review, mean",
    "words_per_review_median": "Words in a review, median",
    "words_per_review_wasserstein_distance": "Difference of words in a review (Wasserstein)",
    "words_per_sentence_wasserstein_distance": "Difference of words in a sentence (Wasserstein)",
}


@dataclass(frozen=True)
class MetricCell:
    """The value of one metric for one arm."""

    value: float
    ci95: tuple[float, float] | None
    reference: float | None


@dataclass(frozen=True)
class MetricRow:
    """One metric over all arms."""

    name: str
    label: str
    direction: str
    visibility: str
    source: str
    num_records: str
    cells: dict[str, MetricCell]
    reference: float | None
    """The reference that all arms share; None where there is none or it differs from arm to arm."""
    references_differ: bool


@dataclass(frozen=True)
class MetricTable:
    """One family of metrics."""

    family: str
    intro: str
    arms: list[str]
    rows: list[MetricRow]


def build_metric_tables(metrics: Sequence[MetricResult]) -> list[MetricTable]:
    """Groups results by family and metric, in the order in which they were computed.

    Args:
      metrics: Of all families and arms. PRIVATE.
    """
    tables = []
    for family in FAMILIES:
        by_name: dict[str, list[MetricResult]] = {}
        for metric in metrics:
            if metric.family == family:
                by_name.setdefault(metric.name, []).append(metric)
        rows = [_build_row(name, results) for name, results in by_name.items()]
        if rows:
            tables.append(MetricTable(family, FAMILY_INTROS[family], order_arms({arm for row in rows for arm in row.cells}), rows))
    return tables


def order_arms(arms: set[str]) -> list[str]:
    """Real, no DP, with DP, then any others by name."""
    return [arm for arm in CONDITIONS if arm in arms] + sorted(arms - set(CONDITIONS))


def _build_row(name: str, results: Sequence[MetricResult]) -> MetricRow:
    references = {result.reference for result in results} - {None}
    sizes = sorted({result.num_records for result in results})
    return MetricRow(
        name=name,
        label=label_metric(name),
        direction=results[0].direction,
        visibility="PRIVATE" if any(result.visibility == "PRIVATE" for result in results) else "RELEASABLE",
        source=results[0].source,
        num_records=f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}",
        cells={result.arm: MetricCell(result.value, result.ci95, result.reference) for result in results},
        reference=next(iter(references)) if len(references) == 1 else None,
        references_differ=len(references) > 1,
    )


def label_metric(name: str) -> str:
    """A metric's name in words.

    >>> label_metric("frechet_distance"), label_metric("sentence_length_distance")
    ('Distance of embeddings (Fréchet)', 'Sentence length distance')
    """
    prefixes = [prefix for prefix in _LABELS if name.startswith(prefix)]
    if not prefixes:
        return name.replace("_", " ").capitalize()
    prefix = max(prefixes, key=len)
    variant = name.removeprefix(prefix).strip("_").replace("_", " ")
    return f"{_LABELS[prefix]}, {variant}" if variant else _LABELS[prefix]


def family_for_figure(table: MetricTable) -> list[dict[str, Any]]:
    """A family in the form that `figures.draw_metric_family` draws."""
    return [
        {
            "label": row.label,
            "direction": row.direction,
            "values": {arm: {"value": c.value, "ci95": c.ci95, "reference": c.reference} for arm, c in row.cells.items()},
        }
        for row in table.rows
    ]


def format_number(value: float) -> str:
    """A figure with as many digits as one reads at a glance.

    >>> [format_number(v) for v in (0.78125, 51.66, 1234.5, 0.00042, 3, 0)]
    ['0.781', '51.7', '1,234', '0.00042', '3', '0']
    """
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.2g}"
    if abs(value) < 10:
        return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"

"""Metrics in plain words: their names, the headings they stand under, and which of a long family to look at first."""

from __future__ import annotations

# The longest prefix wins: a suffix on a metric's name says which variant it is.
_LABELS = {
    "abrupt_ending_frac": "Ends abruptly",
    "attack_auroc": "Membership attack, AUROC",
    "attribute_inference_excess_category": "Category guessed from a known review, less for held-out people",
    "augmentation_accuracy_gain": "Added to real reviews, gain in accuracy",
    "augmentation_accuracy_score": "Added to real reviews, accuracy",
    "bigram_overlap_score": "Word pairs in common (Jaccard)",
    "c2st_auroc": "Told apart from real, AUROC",
    "canary_leaks_num": "Canaries found in the output",
    "closer_to_train_frac": "Closer to training than to held-out data",
    "contamination_sentence_order_bits": "Likelier than its sentences in another order, bits a token",
    "contamination_word_order_bits": "Likelier than its words in another order, bits a token",
    "correlation_matrix_distance": "Difference of correlations between attributes",
    "distinct_1_frac": "Different words among all",
    "distinct_2_frac": "Different word pairs among all",
    "distinct_3_frac": "Different runs of three words among all",
    "downstream_llm_accuracy_score": "Language model tuned on it, accuracy on real reviews",
    "downstream_llm_macro_f1_score": "Language model tuned on it, macro F1 on real reviews",
    "downstream_llm_mean_absolute_error": "Language model tuned on it, stars off on real reviews",
    "downstream_llm_perplexity": "Language model tuned on it, perplexity of real reviews",
    "embedding_coverage_score": "Real reviews with a synthetic one nearby (coverage)",
    "embedding_density_score": "Real neighbourhoods a review lies in (density)",
    "embedding_precision_score": "Reviews where real ones are (precision)",
    "embedding_recall_score": "Real reviews where synthetic ones are (recall)",
    "epsilon_lower_bound": "Audited lower bound on epsilon",
    "exposure_bits": "Canary exposure, bits",
    "facts_contradicted_frac": "Facts of the product told wrong",
    "facts_correct_frac": "Facts of the product told right",
    "facts_known_frac": "Facts told by at least one review",
    "facts_omitted_frac": "Facts of the product left out",
    "feature_importance_jaccard_score": "Same words matter (Jaccard)",
    "feature_importance_kendall_score": "Same words matter (Kendall)",
    "feature_importance_pearson_score": "Same words matter (Pearson)",
    "feature_importance_rank_biased_overlap_score": "Same words matter (rank-biased overlap)",
    "feature_importance_spearman_score": "Same words matter (Spearman)",
    "frechet_distance": "Distance of embeddings (Fréchet)",
    "gibberish_letters_frac": "Gibberish by its letters",
    "gibberish_tokens_frac": "Gibberish to the base model",
    "human_abrupt_ending_frac": "Called abruptly ended",
    "human_fits_frac": "Said to fit its rating and product",
    "human_gibberish_frac": "Called gibberish",
    "human_good_frac": "Called good",
    "human_krippendorff_alpha": "Agreement of the people (Krippendorff)",
    "human_naturalness_mean": "How natural, 1 to 5",
    "human_non_text_frac": "Called not text",
    "human_origin_accuracy_score": "Told from real by people, accuracy",
    "human_repetition_frac": "Called repetitive",
    "human_rule_kappa": "Agreement of rule and people (Cohen)",
    "human_taken_for_real_frac": "Taken for real",
    "human_win_frac_against": "Preferred in a pair",
    "human_win_frac_against_no_dp": "Preferred in a pair with no DP",
    "human_win_frac_against_real": "Preferred in a pair with real text",
    "jensen_shannon_divergence": "Difference of word frequencies (Jensen–Shannon)",
    "kullback_leibler_divergence": "Real words that are missing (Kullback–Leibler)",
    "language_total_variation_distance": "Difference of languages",
    "linkability_excess": "Title and review linked, less for held-out people",
    "longest_common_substring_mean": "Longest stretch copied from training data, characters (mean)",
    "majority_accuracy_score": "Always guessing the commoner answer: accuracy",
    "mauve_score": "MAUVE",
    "near_duplicate_frac": "Nearly a training review",
    "nearest_neighbour_cosine_score": "Likeness to the nearest real review (cosine)",
    "ngram_overlap_excess": "Phrases shared with training, less held-out, data",
    "ngram_overlap_frac": "Phrases shared with training data",
    "ngram_overlap_frac_13_words": "Phrases of 13 words shared with training data",
    "non_text_frac": "Is not text",
    "rating_category_total_variation_distance": "Difference of ratings by category (total variation)",
    "rating_length_correlation_error": "Rating and length go together, difference",
    "rating_sentiment_correlation_error": "Rating and sentiment go together, difference",
    "repeated_frac": "Repeats itself",
    "repeated_in_set_frac": "Says the same as another of its set",
    "replayed_pii_num": "Personal data replayed from training",
    "self_bleu": "Repeats the others of its set (self-BLEU)",
    "sentences_per_review_ks_distance": "Difference of sentences in a review (Kolmogorov–Smirnov)",
    "sentences_per_review_wasserstein_distance": "Difference of sentences in a review (Wasserstein)",
    "singling_out_excess": "One person singled out by two words, less for held-out people",
    "topics_covered_frac": "Real topics covered",
    "tpr_at_fpr": "Membership attack, hits at few false alarms",
    "trts_accuracy_score": "Trained on real, tested on it: accuracy",
    "tstr_": "Trained on it, tested on real reviews",
    "tstr_accuracy_score": "Trained on it, tested on real reviews: accuracy",
    "tstr_macro_f1_score": "Trained on it, tested on real reviews: macro F1",
    "vendi_score": "Different reviews that it amounts to (Vendi)",
    "vocabulary_coverage_frac": "Real words that it uses",
    "vocabulary_overlap_score": "Words in common (Jaccard)",
    "well_formed_frac": "Well-formed reviews",
    "words_per_review_ks_distance": "Difference of words in a review (Kolmogorov–Smirnov)",
    "words_per_review_mean": "Words in a review, mean",
    "words_per_review_median": "Words in a review, median",
    "words_per_review_wasserstein_distance": "Difference of words in a review (Wasserstein)",
    "words_per_sentence_ks_distance": "Difference of words in a sentence (Kolmogorov–Smirnov)",
    "words_per_sentence_wasserstein_distance": "Difference of words in a sentence (Wasserstein)",
    "zipf_slope": "Zipf's law, slope",
}

_GROUPS = {
    "words_per_": "Length",
    "sentences_per_": "Length",
    "jensen_shannon": "Words",
    "kullback_leibler": "Words",
    "vocabulary_": "Words",
    "bigram_": "Words",
    "zipf_": "Words",
    "rating_": "Attributes",
    "correlation_": "Attributes",
    "nearest_neighbour": "Meaning",
    "frechet": "Meaning",
    "mauve": "Meaning",
    "embedding_": "Meaning",
    "c2st": "Meaning",
    "topics_": "Meaning",
    "distinct_": "Variety",
    "self_bleu": "Variety",
    "vendi": "Variety",
    "repeated_in_set": "Variety",
    "well_formed": "Form",
    "repeated_frac": "Form",
    "abrupt_": "Form",
    "non_text": "Form",
    "gibberish_": "Form",
    "language_": "Form",
    "facts_": "Planted facts",
    "contamination_": "Known to the base model already?",
    "tstr_": "Trained on it, tested on real",
    "majority_": "Trained on it, tested on real",
    "trts_": "Trained on real, tested on it",
    "feature_importance_": "What matters",
    "augmentation_": "Added to real reviews",
    "downstream_": "Language model tuned on it",
}

_HEADLINES = (
    "words_per_review_wasserstein_distance",
    "jensen_shannon_divergence",
    "rating_sentiment_correlation_error",
    "nearest_neighbour_cosine_score",
    "frechet_distance",
    "mauve_score",
    "embedding_coverage_score",
    "c2st_auroc",
    "topics_covered_frac",
    "distinct_2_frac",
    "well_formed_frac",
    "facts_correct_frac",
    "tstr_accuracy_score",
    "tstr_macro_f1_score",
    "tstr_accuracy_score_embeddings",
    "trts_accuracy_score",
    "feature_importance_jaccard_score_20",
    "feature_importance_spearman_score",
    "augmentation_accuracy_gain_10",
    "augmentation_accuracy_gain_100",
    "downstream_llm_accuracy_score",
    "downstream_llm_macro_f1_score",
    "downstream_llm_mean_absolute_error",
    "downstream_llm_perplexity",
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


def group_metric(name: str) -> str:
    """The heading that a metric stands under within its family; empty where it has none.

    >>> group_metric("mauve_score"), group_metric("near_duplicate_frac")
    ('Meaning', '')
    """
    prefixes = [prefix for prefix in _GROUPS if name.startswith(prefix)]
    return _GROUPS[max(prefixes, key=len)] if prefixes else ""


def is_headline(name: str) -> bool:
    """Whether a metric is one to look at first; at most twelve of a family are."""
    return name in _HEADLINES

"""Amazon Reviews 2023, as far as penname must know it to fetch it: where its files are, what they are called, and on which terms they may be used.

Addresses, names and terms were read in public copies of the pages of its makers in 2026-11; its servers were not reachable where this was written.
Source: Hou et al. (2024), Bridging Language and Items for Retrieval and Recommendation. https://arxiv.org/abs/2403.03952
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from penname.errors import UsageError

AMAZON_REVIEWS_2023 = "amazon-reviews-2023"
HOME_URL = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw"
"""The laboratory that made it; files are gzipped."""
MIRROR_URL = "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/raw"
"""The same laboratory's copy on the Hugging Face hub; files are not compressed, so three to four times the bytes."""

CATEGORIES = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products", "Beauty_and_Personal_Care", "Books",
    "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry", "Digital_Music", "Electronics", "Gift_Cards",
    "Grocery_and_Gourmet_Food", "Handmade_Products", "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen",
    "Industrial_and_Scientific", "Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products",
    "Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors", "Subscription_Boxes", "Tools_and_Home_Improvement",
    "Toys_and_Games", "Video_Games",
)  # fmt: skip
WITHOUT_CATEGORY = "Unknown"
"""One more file, of the products that belong to none."""

TERMS_NAME = "TERMS.txt"
TERMS = """\
Amazon Reviews 2023, McAuley Lab, UC San Diego: https://amazon-reviews-2023.github.io

No licence comes with this data. Its makers say that they are not in a position to assign one, and that they offer it primarily for research.
The reviews were written by customers of Amazon and the product pages by its sellers; rights in them, and the terms of the place where they were
published, may apply to what you do with them. Whether your use is allowed is for you to find out; the makers' page has the latest word.

The reviews are personal data: their writers can be recognised from them. Treat the files as PRIVATE.

The makers ask to be cited: Yupeng Hou, Jiacheng Li, Zhankui He, An Yan, Xiusi Chen, Julian McAuley: Bridging Language and Items for Retrieval
and Recommendation. arXiv:2403.03952, 2024.
"""


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file to fetch."""

    name: str
    url: str


def find_category(name: str) -> str:
    """The category as its files spell it; spaces, commas, `&` and case do not matter.

    Raises:
      UsageError: there is none of that name; lists the nearest.

    >>> find_category("cell phones & accessories")
    'Cell_Phones_and_Accessories'
    """
    wanted = _plain(name)
    spelled = {_plain(category): category for category in (*CATEGORIES, WITHOUT_CATEGORY)}
    if wanted in spelled:
        return spelled[wanted]
    raise UsageError(f"{name!r}: no such category; {suggest_categories(name)}")


def suggest_categories(name: str) -> str:
    """The categories nearest in spelling, or all of them, as half a sentence."""
    spelled = {_plain(category): category for category in (*CATEGORIES, WITHOUT_CATEGORY)}
    near = [spelled[plain] for plain in difflib.get_close_matches(_plain(name), spelled, n=3, cutoff=0.5)]
    return f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(spelled.values())}"


def list_raw_files(category: str, *, base_url: str | None, mirror: bool) -> tuple[RawFile, RawFile]:
    """The files of a category: its reviews, and the metadata of its products.

    Args:
      category: As `find_category` gives it.
      base_url: The folder that holds review_categories/ and meta_categories/; none: the home of the data set, or its mirror.
      mirror: Whether the files are those of the mirror, which are not compressed.
    """
    base = (base_url or (MIRROR_URL if mirror else HOME_URL)).rstrip("/")
    suffix = ".jsonl" if mirror else ".jsonl.gz"
    reviews, products = f"{category}{suffix}", f"meta_{category}{suffix}"
    return RawFile(reviews, f"{base}/review_categories/{reviews}"), RawFile(products, f"{base}/meta_categories/{products}")


def _plain(name: str) -> str:
    return "_".join(name.lower().replace("&", " and ").replace(",", " ").replace("_", " ").replace("-", " ").split())

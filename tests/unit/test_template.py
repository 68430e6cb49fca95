"""The template: what is filled in comes back out, and what does not have its form is not patched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penname.config import RecordsConfig
from penname.template import RecordTemplate

DEFAULT = RecordTemplate.from_config(RecordsConfig(), has_products=True)
PLAIN = RecordTemplate.from_config(RecordsConfig(completion_template=" {title}\nReview: {text}"), has_products=True)


def make(completion):
    return RecordTemplate.from_config(RecordsConfig(completion_template=completion), has_products=True)


def test_the_default_prompt_holds_public_attributes_alone():
    prompt = DEFAULT.fill_prompt(rating=4, category="Cases", product_title="A {text} case")
    assert prompt.endswith("\n\nProduct: A {text} case\nCategory: Cases\nRating: 4 out of 5\nTitle:")
    assert prompt == DEFAULT.fill_prompt(rating=1, category="Cases", product_title="A {text} case").replace("Rating: 1", "Rating: 4")
    assert DEFAULT.needs_product_title
    assert not RecordTemplate("{category} {rating}", " {title} {text}", "x/1").needs_product_title


_WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=20)


@given(title=_WORDS, text=st.lists(_WORDS, min_size=1, max_size=5).map("\n".join))
@pytest.mark.parametrize("completion", [" {title}\nReview: {text}", "<t>{title}</t><r>{text}</r>"])
def test_what_is_filled_in_comes_back(completion, title, text):
    template = make(completion)
    if "</t><r>" in title:
        return
    assert template.parse_completion(template.fill_completion(title=title, text=text)) == (title, text)


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "only a title",
        " title\nReview:",
        " title\nReview: ",
        "\nReview: text without a title",
        "two\nlines\nReview: text",
        " title\nreview: text",
        " title Review: text",
    ],
)
def test_what_lacks_the_form_is_refused(completion):
    assert PLAIN.parse_completion(completion) is None


def test_the_title_stands_before_the_first_separator():
    assert PLAIN.parse_completion(" a\nReview: b\nReview: c") == ("a", "b\nReview: c")


def test_the_prefix_must_be_there_and_the_end_mark_may():
    template = make("[{title}] {text} END")
    assert template.end == " END"
    assert template.parse_completion("[a] b END") == ("a", "b")
    assert template.parse_completion("[a] b END and more END") == ("a", "b")
    assert template.parse_completion("[a] b") == ("a", "b")
    assert template.parse_completion("a] b END") is None
    assert template.parse_completion("[a] END") is None
    assert PLAIN.end == ""


@pytest.mark.parametrize("text", ["one\n\ntwo", "one\n\n\n\n\ntwo\n\nthree", "one\ntwo"])
def test_the_end_mark_does_not_occur_inside_a_text(text):
    completion = DEFAULT.fill_completion(title="a title", text=text)
    assert completion.count(DEFAULT.end) == 1
    assert completion.endswith(DEFAULT.end)
    title, parsed = DEFAULT.parse_completion(completion)
    assert title == "a title"
    assert parsed.split() == text.split()


def test_a_title_with_braces_is_text_and_no_field():
    assert PLAIN.fill_completion(title="{text}", text="{0!r}") == " {text}\nReview: {0!r}"

"""Where a page's head ends, however the page is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wormhole_tw.middleware.html import HeadEnd

INSERT = b"[here]"


def injected(*pieces: bytes) -> bytes:
    head = HeadEnd(INSERT)
    return b"".join([*map(head.feed, pieces), head.finish()])


@pytest.mark.parametrize(
    "page",
    [
        "<html><head><title>x</title>|</head><body>",
        "<HTML><HEAD>|</HEAD\n><BODY>",
        "<head>|</head/>",
        "<head>|</head ><p></head>",
        "<head><title></head></title>|</head>",
        "<head><script>'</head>' + '</scripty></head>'</script >|</head>",
        "<head><style></head></STYLE>|</head>",
        "<head><!-- </head> -->|</head>",
        "<head><!-->|</head>",
        "<head><!--->|</head>",
        "<head><!-- </head> --!>|</head>",
        "<head><!-- -- > </head> -->|</head>",
        "<head><!--!> </head> -->|</head>",
        "<head><!----!>|</head>",
        "<head><script><!-- '<script></script></head>' //--></script>|</head>",
        "<head><script><!-- </script>|</head> --></script>",
        "<head><script><!--> '<script>'</script>|</head>",
        "<head><script><!-- <script><script></script></head>--></script>|</head>",
        "<head><script>'<script>'</script>|</head>",
        "<head><template><template></template></head></template>|</head>",
        "<head><template><templates></template>|</head>",
        "<head><meta content='</head>'>|</head>",
        '<head><meta content = "</head>">|</head>',
        "<head><meta content=a'b>|</head>",
        "<head><p don't>|</head>",
        "<head><meta =>|</head>",
        "<!doctype html PUBLIC '-//x'><?xml?><html><head>|</head>",
        "<head><title>no end tag</title>|<body class='</head>'>",
        "<headers></headers><a href=/>1 < 2 <b></b>|</head>",
        "<</head|</head>".replace("<</head|", "<|"),
    ],
)
def test_the_place(page: str) -> None:
    whole = page.replace("|", "").encode()
    expected = page.replace("|", INSERT.decode()).encode()
    assert injected(whole) == expected
    assert injected(*(whole[i : i + 1] for i in range(len(whole)))) == expected
    for cut in range(len(whole)):
        for other in range(cut, len(whole)):
            assert injected(whole[:cut], whole[cut:other], whole[other:]) == expected


@pytest.mark.parametrize(
    "page", ["", "plain", "<p>no head</p>", "</headless>", "</head", "<!-- </head>", "<script></head>", "<a b='</head>"]
)
def test_a_page_without_one_stays_as_it_is(page: str) -> None:
    assert injected(page.encode()) == page.encode()
    assert injected(*(page[i : i + 1].encode() for i in range(len(page)))) == page.encode()


PARTS = st.sampled_from(
    b"</head>|</HEAD |</hea|d>|<body>|<!--|-->|--!>|-|<script>|</script>|</scr|ipt|<|>|/|=|'|\"| |\n|x|<title "
    b"|</title>|<textarea|<?|<a b=|<template>|</template>|<!--!>|<scr".split(b"|")
)


@given(page=st.lists(PARTS, max_size=25).map(b"".join), cuts=st.lists(st.integers(0, 200), max_size=8))
@example(page=b"<!--></head>", cuts=[4])
def test_cuts_change_nothing_and_nothing_is_lost(page: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(page)) for cut in cuts), len(page)]
    pieces = [page[start:end] for start, end in pairwise(bounds)]
    whole = injected(page)
    assert injected(*pieces) == whole
    assert whole.replace(INSERT, b"", 1) == page


@given(page=st.lists(PARTS, max_size=25).map(b"".join))
def test_little_waits_for_more(page: bytes) -> None:
    head = HeadEnd(INSERT)
    for index in range(len(page)):
        head.feed(page[index : index + 1])
        assert len(head._held) <= len(b"</textarea>")

"""The site of the documentation: every link leads somewhere, nothing is asked for elsewhere, no page is forgotten."""

import re

import pytest

from tests import docs_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    docs_site.build(folder)
    return {page.relative_to(folder).as_posix(): page.read_text(encoding="utf-8") for page in folder.rglob("*.html")}, {
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    }


def resolved(page, address):
    parts = page.split("/")[:-1]
    for part in address.split("/"):
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def test_every_link_of_the_site_leads_to_a_file_and_an_anchor(site):
    pages, files = site
    followed = 0
    for page, text in pages.items():
        for address in re.findall(r'<(?:a|img|link)[^>]* (?:href|src)="([^"]*)"', text):
            if address.startswith(("https://", "http://")):
                continue
            path, _, anchor = address.partition("#")
            there = resolved(page, path) if path else page
            assert there in files, f"{page}: {address}"
            assert not anchor or f'id="{anchor}"' in pages[there], f"{page}: {address}"
            followed += 1
    assert followed > 1000


def test_the_site_asks_for_nothing_elsewhere_and_has_no_scripts(site):
    pages, _ = site
    for text in pages.values():
        loaded = re.findall(r'<(?:img|link|script|iframe)\b[^>]*(?:href|src)="([^"]+)"', text)
        assert loaded
        assert not [address for address in loaded if "//" in address]
        assert not re.search(r"<script|<iframe|\son\w+=", text)
    assert not re.search(r"url\(|@import", docs_site.CSS)


def test_every_page_is_in_the_site_and_in_its_navigation(site):
    pages, _ = site
    assert set(pages) == {docs_site.target_of(page).as_posix() for page in docs_site.PAGES}
    for page in docs_site.PAGES:
        if page.parent.name != "decisions" and page != docs_site.INDEX:
            assert 'aria-current="page"' in pages[docs_site.target_of(page).as_posix()], page


def test_comments_are_not_shown_and_tables_are_tables(site):
    pages, _ = site
    assert "begin: generated" not in pages["settings.html"]
    assert pages["settings.html"].count("<table>") == 1
    assert "| variable |" not in pages["settings.html"]


@pytest.mark.parametrize("link", ["nowhere.md", "faq.md#nothing", "../deploy/nothing.yaml"])
def test_a_link_that_leads_nowhere_is_a_fault(link):
    with pytest.raises(docs_site.Broken, match=re.escape(link)):
        docs_site.Site().link(docs_site.INDEX, link)

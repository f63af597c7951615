"""`python -m tests.docs_site FOLDER`: the documentation as a site of plain files, without scripts or calls elsewhere.

The pages are read as GitHub reads them (CommonMark with tables, the same anchors); docs/index.md is the navigation.
What a page links to besides is copied as text. Links that lead nowhere are a fault.
"""

import html
import re
import shutil
import sys
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
INDEX = DOCS / "index.md"
PAGES = [page for page in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")]) if page.name != "000-template.md"]

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} – Connect Presence Watchdog</title>
<link rel="stylesheet" href="{up}site.css">
<header><a href="{up}index.html">Connect Presence Watchdog</a> <a class="pages" href="#pages">All pages</a></header>
<main>
{body}
</main>
<nav id="pages" aria-label="Pages">
{nav}
</nav>
</html>
"""

CSS = """:root { color-scheme: light dark; --line: light-dark(#d0d7de, #3d444d);
  --quiet: light-dark(#f3f5f7, #161b22); }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.6 system-ui, sans-serif; color: light-dark(#1f2328, #e6edf3);
  background: light-dark(#fff, #0d1117); }
a { color: light-dark(#0757b8, #6cb0ff); }
header, nav { padding: .7rem 1rem; background: var(--quiet); }
header { font-size: .9rem; border-bottom: 1px solid var(--line); display: flex; justify-content: space-between; }
header a { font-weight: 600; white-space: nowrap; }
nav { font-size: .9rem; border-top: 1px solid var(--line); }
nav h2 { font-size: .9rem; margin: 1rem 0 .2rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .15rem .5rem; text-decoration: none; border-radius: 4px; }
nav a:hover { text-decoration: underline; }
nav a[aria-current] { background: var(--line); color: inherit; }
main { max-width: 56rem; padding: 1rem; margin: auto; overflow-wrap: break-word; }
main img { max-width: 100%; height: auto; }
h1, h2, h3, h4 { line-height: 1.25; margin: 1.8em 0 .6em; }
main h1 { margin-top: .5em; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .2em; }
h2 a, h3 a, h4 a { color: inherit; text-decoration: none; }
h2 a:hover, h3 a:hover, h4 a:hover { text-decoration: underline; }
code, pre { font: .875em/1.45 ui-monospace, monospace; background: var(--quiet); border-radius: 4px; }
code { padding: .1em .3em; }
pre { padding: 1em; overflow: auto; }
pre code { padding: 0; font-size: 1em; }
table { display: block; overflow: auto; border-collapse: collapse; margin: 1em 0; }
th, td { border: 1px solid var(--line); padding: .35em .7em; text-align: left; vertical-align: top; }
blockquote { margin: 1em 0; padding: 0 1em; border-left: 4px solid var(--line); }
@media (min-width: 70rem) {
  header, nav { position: fixed; left: 0; width: 17rem; border: 0; border-right: 1px solid var(--line); }
  header { top: 0; height: 3rem; }
  .pages { display: none; }
  nav { top: 3rem; bottom: 0; overflow: auto; }
  main { margin-left: max(17rem, calc(50vw - 20rem)); padding: 1rem 2rem; }
}
@media print { header, nav { display: none; } }
"""


class Broken(Exception):
    """A link leads nowhere."""


def target_of(page):
    """Where in the site a page is."""
    if page.is_relative_to(DOCS):
        return page.relative_to(DOCS).with_suffix(".html")
    return Path("project") / page.with_suffix(".html").name.lower()


def slug(text):
    """An anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")


def words(inline):
    """The text of a heading, without links and marks."""
    return "".join(each.content for each in inline.children if each.type in {"text", "code_inline"})


class Site:
    """What is read of all pages, and what they need beside themselves."""

    def __init__(self):
        """Reads all pages."""
        self.tokens = {page: READER.parse(page.read_text(encoding="utf-8")) for page in PAGES}
        self.anchors = {page: set(self._headings(page)) for page in PAGES}
        self.files = {}

    def _headings(self, page):
        tokens, seen = self.tokens[page], {}
        for at, token in enumerate(tokens):
            if token.type != "heading_open":
                continue
            name = slug(words(tokens[at + 1]))
            seen[name] = seen.get(name, -1) + 1
            token.attrSet("id", f"{name}-{seen[name]}" if seen[name] else name)
            yield token.attrGet("id")

    def link(self, page, href):
        """What a link of a page is in the site; None for what has no place there."""
        if re.match(r"https?://", href):
            return href
        path, _, anchor = href.partition("#")
        target = (page.parent / path).resolve() if path else page
        up = "../" * (len(target_of(page).parts) - 1)
        if target in self.anchors:
            if anchor and anchor not in self.anchors[target]:
                raise Broken(f"{page.relative_to(ROOT)}: {href}")
            return f"{up}{target_of(target).as_posix()}" + (f"#{anchor}" if anchor else "")
        if target.is_file():
            name = target.relative_to(DOCS if target.is_relative_to(DOCS) else ROOT).as_posix()
            place = name if target.suffix == ".png" else f"files/{name}.txt"
            self.files[place] = target
            return up + place
        if target.is_dir():
            return None
        raise Broken(f"{page.relative_to(ROOT)}: {href}")

    def body(self, page):
        """The page's HTML."""
        for token in self.tokens[page]:
            for each in token.children or []:
                for name in ("href", "src"):
                    if each.attrGet(name) is not None:
                        there = self.link(page, each.attrGet(name))
                        if there is None:
                            each.attrs.pop(name)
                        else:
                            each.attrSet(name, there)
        shown = [each for each in self.tokens[page] if each.type != "html_block"]  # comments: there is no other HTML
        out = READER.renderer.render(shown, READER.options, {})
        return re.sub(r'<(h[234]) id="([^"]+)">(.*?)</\1>', _linked, out, flags=re.DOTALL)

    def title(self, page):
        """The page's first heading."""
        tokens = self.tokens[page]
        return next(words(tokens[at + 1]) for at, token in enumerate(tokens) if token.type == "heading_open")

    def nav(self, page):
        """The navigation: the tables of the index by their headings, then the index itself for the decisions."""
        up = "../" * (len(target_of(page).parts) - 1)
        groups = re.findall(
            r"^## (.*?)\n\n\|.*?\n\|.*?\n((?:\|.*\n)+)", INDEX.read_text(encoding="utf-8"), re.MULTILINE
        )
        lines = []
        for heading, table in groups:
            lines += [f"<h2>{html.escape(heading)}</h2>", "<ul>"]
            for name, href in re.findall(r"^\| \[([^\]]+)\]\(([^)]+)\)", table, re.MULTILINE):
                there = (DOCS / href).resolve()
                current = ' aria-current="page"' if there == page else ""
                address = up + target_of(there).as_posix()
                lines.append(f'<li><a href="{address}"{current}>{html.escape(name)}</a></li>')
            lines.append("</ul>")
        lines += ["<ul>", f'<li><a href="{up}index.html#decisions">Decisions</a></li>', "</ul>"]
        return "\n".join(lines)


def _linked(found):
    tag, anchor, inner = found.groups()
    if "<a " in inner:
        return found[0]
    return f'<{tag} id="{anchor}"><a href="#{anchor}">{inner}</a></{tag}>'


def build(folder):
    """Writes the site into a folder, which is made anew."""
    site = Site()
    shutil.rmtree(folder, ignore_errors=True)
    for page in PAGES:
        place = folder / target_of(page)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(
            TEMPLATE.format(
                title=html.escape(site.title(page)),
                up="../" * (len(target_of(page).parts) - 1),
                nav=site.nav(page),
                body=site.body(page),
            ),
            encoding="utf-8",
        )
    (folder / "site.css").write_text(CSS, encoding="utf-8")
    for place, source in site.files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / place)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
    print(f"{sys.argv[1]}/index.html: {len(PAGES)} pages")

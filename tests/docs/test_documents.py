"""What the documents show is what happens: each block runs, and prints what is printed there."""

from __future__ import annotations

import re

import pytest

from documents import ROOT, blocks, run
from models import minilm_folder, minilm_torch_folder

RUN = [
    "README.md",
    "docs/tutorial.md",
    "docs/explanation/architecture.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs" / "howto").glob("*.md"))),
]
EVERY = [
    "README.md",
    "CONTRIBUTING.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))),
]

MODELS = {
    "docs/howto/embedder-onnx.md": ("onnxruntime", minilm_folder),
    "docs/howto/embedder-sentence-transformers.md": ("sentence_transformers", minilm_torch_folder),
}
"""Which documents read ``models/all-MiniLM-L6-v2``, with which package, and where it is here."""


@pytest.mark.parametrize("document", RUN)
def test_every_block_runs_and_prints_what_the_document_says(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if document in MODELS:
        package, folder = MODELS[document]
        pytest.importorskip(package, reason="make test-extras runs this")
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "all-MiniLM-L6-v2").symlink_to(folder())

    done = run(document)

    assert done, f"{document} has no block that runs"
    for block, printed in done:
        if block.printed is not None:
            assert printed == block.printed, f"{document}, line {block.line}"


@pytest.mark.parametrize("document", EVERY)
def test_every_link_inside_the_project_leads_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
        assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}"


@pytest.mark.parametrize("document", EVERY)
def test_nobody_is_sent_to_the_package_of_another_lineage(document):
    assert not re.search(r"pip install\s+'?fathomdb(?!-py)\b", (ROOT / document).read_text())


def test_a_block_that_raises_is_found_with_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("documents.ROOT", tmp_path)
    (tmp_path / "bad.md").write_text(
        "Read this:\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n```python\n1 / 0\n```\n"
    )

    assert [(block.line, block.printed) for block in blocks("bad.md")] == [(4, "1\n"), (12, None)]
    with pytest.raises(ZeroDivisionError) as caught:
        run("bad.md")
    assert caught.traceback[-1].lineno == 11

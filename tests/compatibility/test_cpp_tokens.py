"""Property tests: whatever the text, tokens are right about what and where they are."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from ds_core.compatibility.cpp_tokens import NEVER, tokens

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z_0-9]{0,8}", fullmatch=True).filter(
    lambda name: name not in {"R", "L", "u", "U", "u8", "LR", "uR", "UR", "u8R"}
)
INERT = st.text(st.sampled_from("abc cudaFree() \t*/+-;{}<>=%"), max_size=20)


@given(st.text())
def test_any_text_becomes_tokens(text):
    list(tokens(text))


@given(st.text(st.sampled_from("\\\n\r\"'/*#R(){}ab0xif<> \t"), max_size=60))
def test_any_text_of_awkward_characters_becomes_tokens(text):
    found = list(tokens(text))
    assert all(token.line <= text.count("\n") + 1 for token in found)


@pytest.mark.parametrize("piece", [" ", "\\\n", "\r", "/*", 'R"(', "'", "\\"])
def test_long_runs_of_anything_come_to_an_end(piece):
    list(tokens(piece * 200_000))  # with time that grows as the square, this would take hours


def test_conditions_nested_without_end_are_not_all_remembered():
    found = list(tokens("".join(f"#ifndef A{i}\n" for i in range(5_000)) + "x"))
    assert found[-1].text == "x"
    assert 0 < len(found[-1].unless) < 200


def quoted(text):
    return '"' + text.replace('"', "") + '"'


def comment(text):
    return "/*" + text.replace("*/", "") + " */"


def raw(text):
    return 'R"x(' + text + ')x"'


PIECES = st.one_of(
    NAMES.map(lambda name: ("name", name)),
    INERT.map(lambda text: ("string", quoted(text))),
    INERT.map(lambda text: ("string", raw(text + '"\n'))),
    INERT.map(lambda text: ("", comment(text + "\n"))),
    INERT.map(lambda text: ("", "//" + text.replace("\\", "") + "\n")),
    INERT.map(lambda text: ("", "// goes on \\\n" + text + "\n")),
    st.just(("char", "'\\''")),
    st.just(("number", "1'000'000u")),
)


@given(st.lists(PIECES, max_size=12))
def test_names_are_found_and_what_is_in_comments_and_strings_is_not(pieces):
    text = " ".join(piece for _, piece in pieces)
    found = [(token.kind, token.text) for token in tokens(text)]
    assert found == [(kind, piece) for kind, piece in pieces if kind]


@given(st.lists(PIECES, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_a_token_stands_where_it_says(pieces, newline):
    text = newline.join(piece.replace("\n", newline) for _, piece in pieces)
    lines = text.split("\n")
    for token in tokens(text):
        assert "\n".join(
            [lines[token.line - 1][token.column - 1 :], *lines[token.line :]]
        ).startswith(token.text)


@given(st.lists(NAMES, min_size=1, max_size=6), st.data())
def test_line_continuations_change_nothing_but_lines(names, data):
    spliced = []
    for name in names:
        cut = data.draw(st.integers(0, len(name)))
        spliced.append(name[:cut] + "\\\n" * (0 < cut < len(name)) + name[cut:])
    found = [token.text for token in tokens(" \\\n ".join(spliced)) if token.kind == "name"]
    assert found == names


def test_what_a_macro_leaves_out():
    text = """
    before
    #ifdef ROCM
    hip
    #else
    cuda
    #endif
    #if !defined(ROCM) && X > 1
    also_cuda
    #else
    unknown
    #endif
    #if defined(ROCM) || defined(HIP)
    either
    #elif defined(OTHER)
    other
    #else
    neither
    #endif
    #if 0
    never
    #else
    always
    #endif
    after
    """
    found = {t.text: t.unless for t in tokens(text) if t.kind == "name"}
    assert found["before"] == found["after"] == found["hip"] == found["unknown"] == frozenset()
    assert found["cuda"] == found["also_cuda"] == {"ROCM"}
    assert found["either"] == found["always"] == frozenset()
    assert found["other"] == {"ROCM", "HIP"}
    assert found["neither"] == {"ROCM", "HIP", "OTHER"}
    assert found["never"] == {NEVER}


@given(
    st.lists(st.sampled_from(["#if A", "#else", "#endif", "#elif !defined(B)", "#ifndef A", "x"]))
)
@settings(max_examples=200)
def test_unbalanced_conditions_raise_nothing_and_leak_nothing(lines):
    text = "\n".join(lines)
    depth = 0
    for line in lines:
        depth = depth + 1 if line.startswith(("#if ", "#ifn")) else depth
        depth = max(depth - (line == "#endif"), 0)
    *_, last = tokens(text + "\n" + "#endif\n" * depth + "end_of_file")
    assert last.unless == frozenset()


def test_headers_are_paths_without_brackets():
    text = '#include <cuda.h>\n  #  include "a/b.h" // cuda.h\nint a = b <c> d;'
    headers = [token.text for token in tokens(text) if token.kind == "header"]
    assert headers == ["cuda.h", "a/b.h"]


def test_text_of_errors_and_pragmas_is_no_code():
    text = "#error Don't cudaFree\n#pragma once cudaMalloc\nint x;"
    assert [t.text for t in tokens(text) if t.kind == "name"] == ["int", "x"]

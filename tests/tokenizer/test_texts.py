"""Reading texts from files."""

import gzip

import pytest

from tokenizer import read_texts


def write(path, content: str | bytes):
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a"])
def test_a_line_ends_at_a_line_feed_only(tmp_path, name):
    path = write(tmp_path / name, "\ufeffone\r\n two \n\nx\u2028y\x0bz\rw\nlast")
    texts = ["one", " two ", "", "x\u2028y\x0bz\rw", "last"]
    assert list(read_texts([path])) == texts
    assert list(read_texts([path], keep_newlines=True)) == [text + "\n" for text in texts]


@pytest.mark.parametrize("name", ["a.tsv", "a.TSV", "a.tsv.gz"])
def test_columns_of_a_tsv(tmp_path, name):
    path = write(tmp_path / name, 'en\tko\nsay "hi\t안녕\ndog\t개\n')
    assert list(read_texts([path], ["ko"])) == ["안녕", "개"]
    assert list(read_texts([path], ["ko", "en"])) == ["안녕", 'say "hi', "개", "dog"]
    assert list(read_texts([path], ["1"])) == ["ko", "안녕", "개"]


def test_columns_of_a_csv_may_be_quoted(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\n"one, ""two""\nthree",1\nfour,0\n')
    assert list(read_texts([path], ["text"])) == ['one, "two"\nthree', "four"]


def test_files_are_read_in_order(tmp_path):
    paths = [write(tmp_path / "b.txt", "1\n2\n"), write(tmp_path / "a.tsv", "3\n")]
    assert list(read_texts(paths, ["0"])) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("name", "content", "columns", "words"),
    [
        ("a.txt", "", [], ["a.txt", "empty"]),
        ("a.txt.gz", "", [], ["a.txt.gz", "empty"]),
        ("a.txt", b"fine\nGr\xfc\xdfe\n", [], ["a.txt:2", "0xfc", "UTF-8"]),
        ("a.tsv", "en\tko\n", [], ["a.tsv", "--column"]),
        ("a.tsv", "en\tko\n", ["fr"], ["a.tsv:1", "'fr'", "en, ko"]),
        ("a.tsv", "en\tko\na\tb\nc\n", ["ko"], ["a.tsv:3", "ko", "1 cells"]),
        ("a.csv", "a,b\n", ["2"], ["a.csv:1", "2"]),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, columns, words):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError) as caught:
        list(read_texts([path], columns))
    assert [word for word in words if word not in str(caught.value)] == []


def test_missing_file_folder_and_broken_gzip(tmp_path):
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(b"text\n" * 1000)[:-9])
    not_gzip = tmp_path / "not.gz"
    not_gzip.write_bytes(b"plain")
    for path, word in [(tmp_path / "none", "no such"), (tmp_path, "folder"), (broken, "gzip"), (not_gzip, "gzip")]:
        with pytest.raises(ValueError, match=word):
            list(read_texts([path]))


def test_no_file_is_opened_before_all_were_checked(tmp_path):
    good = write(tmp_path / "good.txt", "text\n")
    with pytest.raises(ValueError, match=r"none\.txt"):
        next(read_texts([good, tmp_path / "none.txt"]))

"""The table of formats and precisions."""

import re
from typing import get_args

import pytest

from stale_edge.config.runtimes import MANIFEST_RUNTIMES, PRECISIONS, RUNTIMES, Precision
from stale_edge.exporting.artifact_formats import FORMATS, check_arguments, find_format, select_formats


def test_every_format_comes_once_in_each_of_its_precisions() -> None:
    kinds = [(row.format, row.precision) for row in FORMATS]
    every = [(format, precision) for format in ("onnx", "torchscript") for precision in ("fp32", "fp16", "int8")]
    assert kinds == [*every[:3], ("onnx", "int8-static"), *every[3:], ("pt2", "fp32")]


def test_files_are_called_as_the_bundle_contract_says() -> None:
    assert [row.file_name for row in FORMATS] == [
        "detector-fp32.onnx",
        "detector-fp16.onnx",
        "detector-int8.onnx",
        "detector-int8-static.onnx",
        "detector-fp32.torchscript.pt",
        "detector-fp16.torchscript.pt",
        "detector-int8.torchscript.pt",
        "detector-fp32.pt2",
    ]


def test_every_file_that_a_runtime_opens_can_be_exported() -> None:
    opened = {(row.format, PRECISIONS[precision].file) for row in RUNTIMES.values() for precision in row.precisions}
    assert opened == {(row.format, row.precision) for row in FORMATS}
    assert set(RUNTIMES) >= {row.runtime for row in FORMATS} == set(MANIFEST_RUNTIMES.values())


def test_the_type_and_the_table_name_the_same_precisions() -> None:
    assert tuple(PRECISIONS) == get_args(Precision)


def test_slow_half_precision_is_said() -> None:
    for row in FORMATS:
        assert ("on a CPU" in row.note) == (row.precision == "fp16"), row


def test_select_takes_every_combination_in_the_order_of_the_table() -> None:
    rows = select_formats(["torchscript", "onnx"], ["int8", "fp32"])
    assert [(row.format, row.precision) for row in rows] == [
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("torchscript", "fp32"),
        ("torchscript", "int8"),
    ]


def test_triton_stands_for_the_onnx_rows_that_it_is_made_of() -> None:
    assert select_formats(["triton"], ["fp32"]) == select_formats(["onnx"], ["fp32"])
    assert select_formats(["triton", "onnx", "pt2"], ["fp32", "int8"]) == select_formats(
        ["onnx", "pt2"], ["fp32", "int8"]
    )


@pytest.mark.parametrize(
    ("formats", "precisions", "said"),
    [
        (["openvino"], ["fp32"], "format must be among onnx, torchscript, pt2, triton; got 'openvino'"),
        (["onnx", "pt2"], ["int8"], "pt2 does not come in int8. What can be exported: onnx fp32"),
        (["triton"], ["int8"], "triton does not come in int8"),
        (["onnx"], ["bf16"], "precision must be among fp32, fp16, int8, int8-static; got 'bf16'"),
        (["onnx"], ["int4", "fp32"], "got 'int4'"),
        ([], ["fp32"], "got none"),
        (["onnx"], [], "got none"),
        ("onnx", ["fp32"], "must be a list of names; got the single string 'onnx'"),
    ],
)
def test_anything_else_is_an_error_that_lists_what_is_allowed(formats: list, precisions: list, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        select_formats(formats, precisions)


def test_arguments_that_mean_nothing_are_refused() -> None:
    check_arguments(find_format("onnx", "int8"), ["metadata", "keep_float32"])
    with pytest.raises(ValueError, match=re.escape("onnx fp32 does not take keep_float32; allowed: metadata")):
        check_arguments(find_format("onnx", "fp32"), ["keep_float32"])

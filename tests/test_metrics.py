import re

from hypothesis import given
from hypothesis import strategies as st

from container.metrics import METRICS, TRAIN_LOSS, VALIDATION_LOSS, Metric, definitions, line


@given(st.sampled_from(METRICS), st.floats(min_value=-1e30, max_value=1e30))
def test_the_tuner_reads_back_what_is_printed(metric: Metric, value: float) -> None:
    match = re.search(metric.regex, f"epoch 1/5: {metric.text(value)} more")
    assert match
    assert float(match[1]) == float(f"{value:.6g}")


def test_a_line_gives_each_metric_its_own_value() -> None:
    text = line({TRAIN_LOSS: 1e-05, VALIDATION_LOSS: 2.0})
    assert re.findall(TRAIN_LOSS.regex, text) == ["1e-05"]
    assert re.findall(VALIDATION_LOSS.regex, text) == ["2"]


def test_definitions_are_within_the_services_limits() -> None:
    # "MetricDefinitions: at most 40; Name at most 255 characters, Regex at most 500"
    assert len(definitions()) <= 40
    for definition in definitions():
        assert len(definition["Name"]) <= 255
        assert len(definition["Regex"]) <= 500

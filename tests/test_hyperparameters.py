import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.errors import UserError
from container.hyperparameters import (
    Choice,
    Flag,
    Hyperparameters,
    Integer,
    Real,
    RealOrAuto,
    Text,
    TuningRange,
    as_strings,
    declarations,
    parse,
)


def test_defaults_pass_their_own_checks() -> None:
    for declaration in declarations():
        assert declaration.check.parse(declaration.name, declaration.default) == declaration.default


def test_every_value_may_be_a_string() -> None:
    options = parse({"lr": "1e-05", "epochs": "3", "flip": "False", "arch": "resnet50"})
    assert options.lr == 1e-05
    assert options.epochs == 3
    assert options.flip is False
    assert options.arch == "resnet50"


@pytest.mark.parametrize("yes", ["true", "1", "yes", "on", "TRUE", "Yes", True, 1])
def test_every_way_to_say_yes(yes: object) -> None:
    assert Flag().parse("flip", yes) is True


@pytest.mark.parametrize("no", ["false", "0", "no", "off", "False", "NO", False, 0])
def test_every_way_to_say_no(no: object) -> None:
    assert Flag().parse("flip", no) is False


@pytest.mark.parametrize("auto", ["auto", "AUTO", "Auto", None])
def test_auto_is_for_the_job_to_find_out(auto: object) -> None:
    assert RealOrAuto(Real(above=0)).parse("lr", auto) is None
    assert RealOrAuto(Real(above=0)).parse("lr", "0.5") == 0.5


@pytest.mark.parametrize("nothing", ["", "  ", 3, None])
def test_text_must_be_there(nothing: object) -> None:
    with pytest.raises(UserError) as refused:
        Text("names, with commas").parse("rules", nothing)
    assert str(refused.value) == f"rules must be names, with commas, got {nothing!r}."
    assert Text("names").parse("rules", " a,b ") == "a,b"


def test_a_word_that_is_no_choice_is_refused_with_the_choices() -> None:
    with pytest.raises(UserError) as refused:
        Choice(("adam", "sgd")).parse("optimizer", "adamw")
    assert str(refused.value).startswith("optimizer must be one of adam, sgd, got 'adamw'")


def test_a_string_in_quotes_is_what_the_sdk_sends() -> None:
    assert parse({"arch": '"resnet34"', "lr": '"0.5"'}) == parse({"arch": "resnet34", "lr": 0.5})


@pytest.mark.parametrize("name", ["batch-size", "batch_size"])
def test_names_take_hyphens_and_underscores(name: str) -> None:
    assert parse({name: 32}).batch_size == 32


def test_a_later_source_wins_however_its_name_is_spelled() -> None:
    assert parse({"batch_size": "32"}, {"batch-size": "16"}).batch_size == 16


def test_one_name_in_both_spellings_is_refused() -> None:
    with pytest.raises(UserError, match="batch-size is given twice"):
        parse({"batch_size": "32", "batch-size": "16"})


def test_the_services_own_entries_are_ignored() -> None:
    given = {"_tuning_objective_metric": "validation:loss", "sagemaker_program": "x.py"}
    assert parse(given) == Hyperparameters()


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("bath-size", "batch-size"), ("learning_rate", "lr"), ("epoch", "epochs"), ("model", "arch")],
)
def test_a_misspelt_name_is_refused_with_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"no hyperparameter '{wrong}'; did you mean '{meant}'"):
        parse({wrong: "1"})


def test_a_name_like_no_other_is_refused_with_all_that_are_known() -> None:
    with pytest.raises(UserError, match=r"known are arch, weights, .*debug"):
        parse({"zzzzzz": "1"})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("lr", "0", "lr must be greater than 0, got 0."),
        ("lr", "nan", "lr must be a finite number, got 'nan'."),
        ("lr", "fast", "lr must be a number or auto, got 'fast'."),
        ("lr", True, "lr must be a number or auto, got True."),
        ("epochs", "2.5", "epochs must be a whole number, got 2.5."),
        ("epochs", "0", "epochs must be at least 1, got 0."),
        ("image-size", "1e9", "image-size must be at most 1024, got 1e9."),
        ("flip", "maybe", "flip must be true or false, got 'maybe'."),
        ("arch", "resnet5", "did you mean 'resnet50'?"),
    ],
)
def test_a_value_outside_its_bounds_is_named(name: str, value: object, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        parse({name: value})
    assert sentence in str(raised.value)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20) | st.floats() | st.booleans()))
def test_anything_at_all_is_parsed_or_refused_in_one_sentence(wild: dict[str, object]) -> None:
    with contextlib.suppress(UserError):
        assert isinstance(parse(wild), Hyperparameters)


@given(st.floats(min_value=1e-12, max_value=1000), st.integers(1, 10_000))
def test_the_strings_sent_to_the_service_parse_to_the_same_values(lr: float, epochs: int) -> None:
    options = Hyperparameters(lr=lr, epochs=epochs)
    assert parse(as_strings(options)) == options


def test_tuning_ranges_lie_within_the_checks() -> None:
    ranges = [declaration for declaration in declarations() if declaration.tune]
    assert {declaration.name for declaration in ranges} == {"epochs", "lr", "eps", "batch-size"}
    for declaration in ranges:
        tune = declaration.tune
        ends = (tune.low, tune.high) if isinstance(tune, TuningRange) else tune
        for end in ends or ():
            declaration.check.parse(declaration.name, end)


def test_checks_describe_their_bounds() -> None:
    assert Real(above=0, most=1).describe() == "> 0, ≤ 1"
    assert Real(least=0).describe() == "≥ 0"
    assert Integer(1, 9).describe() == "1 to 9"


def test_every_hyperparameter_has_a_meaning() -> None:
    names = [declaration.name for declaration in declarations()]
    assert len(names) == len(dataclasses.fields(Hyperparameters)) == len(set(names))
    assert all(declaration.meaning for declaration in declarations())


def test_the_services_own_names_are_passed_over_wherever_they_stand() -> None:
    options = parse({"sagemaker_program": "x.py", "epochs": "3", "_tuning_objective": "y", "lr": 1})
    assert (options.epochs, options.lr) == (3, 1.0)


def test_later_sources_win_and_earlier_ones_stay() -> None:
    options = parse({"epochs": "3", "seed": "7"}, {"epochs": "5"})
    assert (options.epochs, options.seed) == (5, 7)


def test_strings_for_the_service_are_read_back_as_the_same_values() -> None:
    options = Hyperparameters(lr=None, batch_size=16, flip=False, crop_scale=0.5)
    strings = as_strings(options)
    assert (strings["lr"], strings["batch-size"], strings["flip"]) == ("auto", "16", "False")
    assert parse(strings) == options


def test_checks_describe_what_they_allow() -> None:
    assert Choice(("a", "b")).describe() == "a, b"
    assert Flag().describe() == "true, false"
    assert Real(least=0.0, most=1.0).describe() == "≥ 0, ≤ 1"
    assert Integer(1, 9).describe() == "1 to 9"

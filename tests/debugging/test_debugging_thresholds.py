"""Where each rule begins to fire, and what it says then, on directories of chosen numbers."""

import time
from pathlib import Path

import numpy as np
import pytest
from saved_tensors import LOSS, Saved, reduced

from container.debugging.records import Array
from container.debugging.rules.activations import DeadRelu, PoorWeightInitialization
from container.debugging.rules.answers import ClassImbalance, Confusion
from container.debugging.rules.course import CheckInputImages, StalledTraining
from container.debugging.rules.gradients import VanishingGradient, WeightUpdateRatio
from container.debugging.rules.losses import LossNotDecreasing, Overfit, Overtraining, rounds
from container.debugging.rules.rule import Finding, MissingError, Rule, evaluate, with_parameters
from container.debugging.rules.values import (
    AllZero,
    ExplodingTensor,
    TensorVariance,
    UnchangedTensor,
)
from container.debugging.tensors import EVAL, GLOBAL, HOOK_OFF_FILE, TRAIN, Tensors
from container.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")

WEIGHT, GRADIENT = "ResNet_fc.weight", "gradient/ResNet_fc.weight"
LABELS, SCORES = "labels", "predictions"


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return Saved(tmp_path)


def missing(rule: Rule, saved: Saved) -> str:
    with pytest.raises(MissingError) as error:
        rule.check(saved.tensors)
    return str(error.value)


# ---- rules' parameters and results ----


def test_parameters_are_read_as_what_their_defaults_are() -> None:
    assert with_parameters(Overfit, {"patience": "3"}).patience == 3
    assert with_parameters(Overfit, {"ratio_threshold": "0.5"}).ratio_threshold == 0.5
    assert with_parameters(ExplodingTensor, {"only_nan": "TRUE"}).only_nan is True
    assert with_parameters(ExplodingTensor, {"only_nan": "False"}).only_nan is False
    assert with_parameters(AllZero, {"tensor_regex": "a.b"}).tensor_regex == "a.b"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"patients": "1"}, "Overfit has no parameter 'patients'; known: start_step, patience, "),
        ({"patience": "two"}, "Overfit's parameter patience cannot be 'two'; its default is 1."),
        ({"patience": "2.5"}, "Overfit's parameter patience cannot be '2.5'; its default is 1."),
    ],
)
def test_a_wrong_parameter_is_told_with_what_is_right(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        with_parameters(Overfit, given)
    assert str(error.value).startswith(sentence)


def test_a_result_says_what_was_found_or_missed_or_went_wrong(saved: Saved) -> None:
    result = evaluate(Overfit(), saved.tensors)
    assert (result.rule, result.status, result.step) == ("Overfit", "Error", None)
    assert result.evidence == {"reason": "no TRAIN losses were saved"}
    saved.losses([1.0] * 20)
    assert evaluate(LossNotDecreasing(), saved.tensors).status == "IssuesFound"
    fine = evaluate(StalledTraining(), saved.tensors)
    assert (fine.rule, fine.status, fine.step) == ("StalledTraining", "NoIssuesFound", None)

    class Broken(Overfit):
        def check(self, tensors: object) -> Finding | None:
            raise ZeroDivisionError("by zero")

    broken = evaluate(Broken(), saved.tensors)
    assert (broken.status, broken.evidence) == ("Error", {"reason": "ZeroDivisionError: by zero"})


# ---- losses ----


def test_a_level_loss_is_found_after_two_windows(saved: Saved) -> None:
    assert LossNotDecreasing().check(saved.losses([2.0] * 19).tensors) is None
    found = LossNotDecreasing().check(saved.losses([2.0]).tensors)
    evidence = {"loss_before": 2.0, "loss": 2.0, "fall_percent": 0.0, "rising": False}
    assert found == Finding(19, evidence)


def test_a_rising_loss_is_named_as_such(saved: Saved) -> None:
    found = LossNotDecreasing().check(saved.losses([1.0] * 10 + [2.0] * 10).tensors)
    assert found is not None
    assert found.evidence["rising"] is True
    assert found.evidence["fall_percent"] == -100.0
    assert (found.evidence["loss_before"], found.evidence["loss"]) == (1.0, 2.0)


def test_a_loss_that_falls_enough_is_fine(saved: Saved) -> None:
    assert LossNotDecreasing().check(saved.losses(np.linspace(2, 1, 40).tolist()).tensors) is None


@pytest.mark.parametrize(("level", "fires"), [(0.51, True), (0.49, False)])
def test_a_loss_below_its_learned_share_may_stand(saved: Saved, level: float, fires: bool) -> None:
    tensors = saved.losses([1.0, 1.0, 1.0, *[level] * 37]).tensors
    assert (LossNotDecreasing().check(tensors) is not None) is fires


def test_windows_are_counted_in_steps_that_were_saved(saved: Saved) -> None:
    rule = LossNotDecreasing(num_steps=30)
    assert rule.check(saved.losses([2.0] * 59).tensors) is None
    assert rule.check(saved.losses([2.0]).tensors) is not None
    few = LossNotDecreasing(num_steps=2)
    found = few.check(saved.tensors)
    assert found is not None
    assert found.step == 9, "no window is narrower than five losses"


def test_the_mode_can_be_chosen_and_is_found_otherwise(saved: Saved) -> None:
    saved.losses(np.linspace(2, 1, 40).tolist()).losses([1.0] * 40, EVAL)
    assert LossNotDecreasing().check(saved.tensors) is None
    assert LossNotDecreasing(mode=EVAL).check(saved.tensors) is not None
    assert missing(LossNotDecreasing(mode=GLOBAL), saved) == "no losses were saved"


def test_losses_of_scripts_without_modes_are_found(saved: Saved) -> None:
    assert LossNotDecreasing().check(saved.losses([1.0] * 40, GLOBAL).tensors) is not None


def test_noise_is_not_taken_for_a_loss_that_stands(saved: Saved) -> None:
    assert LossNotDecreasing().check(saved.losses([1.5, 0.5] * 20).tensors) is None


def test_rounds_are_training_and_the_evaluation_that_ends_it(saved: Saved) -> None:
    saved.losses([9.0], EVAL)  # before any training: no round
    saved.rounds(([3.0, 2.0], [2.5]), ([1.0], [2.0, 2.2]))
    (first,) = rounds(saved.tensors)
    assert (first.step, first.train, first.validation) == (1, (3.0, 2.0), (2.5,))
    _, last = rounds(saved.ended().tensors)
    assert (last.step, last.train, last.validation) == (2, (1.0,), (2.0, 2.2))


def test_rounds_need_losses_of_both_modes(saved: Saved) -> None:
    saved.losses([1.0])
    with pytest.raises(MissingError, match=r"^no EVAL losses were saved$"):
        rounds(saved.tensors)


OVERFIT = (([2.0, 2.0], [2.0, 2.0]), ([1.0, 1.0], [1.5, 1.5]), ([0.5, 0.5], [1.5, 1.5]))


def test_overfitting_is_told_with_both_losses_and_their_ratio(saved: Saved) -> None:
    found = Overfit().check(saved.rounds(*OVERFIT).ended().tensors)
    assert found == Finding(5, {"train_loss": 0.5, "validation_loss": 1.5, "ratio": 2.0})


@pytest.mark.parametrize(
    ("rule", "fires"),
    [
        (Overfit(ratio_threshold=2.0), False),
        (Overfit(ratio_threshold=1.99), True),
        (Overfit(start_step=6), False),
        (Overfit(start_step=5), True),
        (Overfit(patience=2), False),
        (Overfit(patience=2, improvement=0.3), True),
        (Overfit(learned_share=0.25), True),
        (Overfit(learned_share=0.2), False),
    ],
)
def test_overfitting_begins_where_its_parameters_say(
    saved: Saved, rule: Overfit, fires: bool
) -> None:
    found = rule.check(saved.rounds(*OVERFIT).ended().tensors)
    assert (found is not None) is fires


def test_a_difference_within_the_noise_is_no_overfitting(saved: Saved) -> None:
    noisy = ([0.5, 0.5], [0.1, 1.3])
    assert Overfit().check(saved.rounds(OVERFIT[0], noisy, noisy).ended().tensors) is None


def test_overfitting_must_be_shown_in_a_row(saved: Saved) -> None:
    good = ([0.5, 0.5], [0.5, 0.5])
    bad = OVERFIT[2]
    tensors = saved.rounds(OVERFIT[0], bad, good, bad, good, bad).ended().tensors
    assert Overfit(patience=2).check(tensors) is None


def test_overtraining_names_the_last_improvement(saved: Saved) -> None:
    saved.rounds(([2.0], [2.0]), ([1.0], [1.0]), *[([1.0], [0.5])] * 10).ended()
    assert Overtraining().check(saved.tensors) == Finding(
        10, {"loss": "train", "best": 1.0, "last_improvement": 1}
    )


@pytest.mark.parametrize(("fall", "fires"), [(0.009, True), (0.012, False)])
def test_what_falls_by_less_than_delta_stands(saved: Saved, fall: float, fires: bool) -> None:
    levels = [2.0 - fall * n for n in range(8)]
    saved.rounds(*[([level], [1.0]) for level in levels]).ended()
    found = Overtraining(patience_validation=100, patience_train=5, delta=0.01).check(saved.tensors)
    slow = Overtraining(patience_validation=100, patience_train=5, delta=1.0).check(saved.tensors)
    assert (found is not None) is False, "two windows apart even a slow fall is one"
    assert (slow is not None) is True


def test_a_validation_loss_that_stands_is_overtraining_too(saved: Saved) -> None:
    falling = [2.0 - 0.1 * n for n in range(15)]
    saved.rounds(*[([loss], [1.0]) for loss in falling]).ended()
    assert Overtraining().check(saved.tensors) == Finding(
        10, {"loss": "validation", "best": 1.0, "last_improvement": 0}
    )


# ---- gradients and weights ----


def test_a_vanished_gradient_is_told_where_it_is_first(saved: Saved) -> None:
    other = "gradient/ResNet_conv1.weight"
    saved.add({LOSS: [1.0], **reduced(GRADIENT, abs_mean=1e-7), **reduced(other, abs_mean=1.0)})
    assert VanishingGradient().check(saved.tensors) is None
    saved.add({LOSS: [1.0], **reduced(GRADIENT, abs_mean=1.0), **reduced(other, abs_mean=9e-8)})
    saved.add({LOSS: [1.0], **reduced(GRADIENT, abs_mean=0.0), **reduced(other, abs_mean=0.0)})
    found = VanishingGradient().check(saved.tensors)
    assert found is not None
    assert found.step == 1
    assert found.evidence["tensor"] == other
    assert found.evidence["abs_mean"] == pytest.approx(9e-8)
    assert found.evidence["threshold"] == 1e-7


@pytest.mark.parametrize(("loss", "fires"), [(0.011, True), (0.009, False)])
def test_gradients_may_vanish_when_everything_is_learned(
    saved: Saved, loss: float, fires: bool
) -> None:
    saved.add({LOSS: [1.0], **reduced(GRADIENT, abs_mean=1.0)})
    saved.add({LOSS: [loss], **reduced(GRADIENT, abs_mean=0.0)})
    assert (VanishingGradient().check(saved.tensors) is not None) is fires


def test_what_is_missed_is_named(saved: Saved) -> None:
    saved.add({"something": [1.0]})
    assert missing(VanishingGradient(), saved) == "no gradients were saved"
    assert missing(UnchangedTensor(), saved) == "no weights were saved"
    assert missing(AllZero(), saved) == "no tensor of gradients,weights was saved"
    assert missing(AllZero("", "nothing"), saved) == "no tensor of nothing was saved"
    assert missing(TensorVariance(), saved) == "give max_threshold or min_threshold"
    assert missing(ClassImbalance(), saved) == "no labels were saved"
    assert missing(Confusion(), saved) == "no labels with predictions were saved"
    assert missing(CheckInputImages(), saved) == "no input images were saved"
    assert missing(WeightUpdateRatio(), saved).startswith("neither update ratios nor whole weights")
    assert missing(DeadRelu(), saved).startswith("neither activities nor whole outputs of ReLUs")
    assert missing(PoorWeightInitialization(), saved).startswith("neither gradients nor the inputs")


@pytest.mark.parametrize(
    ("ratio", "fires"), [(10.0, False), (10.1, True), (1e-8, False), (9e-9, True), (0.1, False)]
)
def test_updates_that_kennel_saved_are_judged_as_they_are(
    saved: Saved, ratio: float, fires: bool
) -> None:
    saved.add({f"update/{WEIGHT}": [0.01]})
    saved.add({f"update/{WEIGHT}": [ratio]})
    found = WeightUpdateRatio().check(saved.tensors)
    assert found == (Finding(1, {"tensor": WEIGHT, "ratio": ratio}) if fires else None)


def test_updates_are_computed_from_whole_weights(saved: Saved) -> None:
    for weight in ([3.0, 4.0], [3.0, 4.5], [3.0, 4.5], [3.0, 5.0]):
        saved.add({WEIGHT: weight})
    (points,) = WeightUpdateRatio().ratios(saved.tensors).values()
    assert [point.step for point in points] == [1, 2, 3]
    assert points[0].value == pytest.approx(0.1, rel=1e-6)
    assert points[1].value == 0
    (apart,) = WeightUpdateRatio(num_steps=2).ratios(saved.tensors).values()
    assert [(point.step, round(point.value, 6)) for point in apart] == [(2, 0.1)]
    found = WeightUpdateRatio().check(saved.tensors)
    assert found is not None
    assert found.step == 2


def test_only_weights_that_have_gradients_must_move(saved: Saved) -> None:
    for step in range(4):
        saved.add({WEIGHT: [1.0 + step], "frozen.weight": [1.0], GRADIENT: [1.0]})
    assert WeightUpdateRatio().check(saved.tensors) is None
    assert UnchangedTensor().check(saved.tensors) is None
    assert UnchangedTensor(tensor_regex="frozen").check(saved.tensors) == Finding(
        2, {"tensor": "frozen.weight", "mode": TRAIN, "saved_steps": 3}
    )


@pytest.mark.parametrize(
    ("rule", "steps", "fires"),
    [
        (UnchangedTensor(num_steps=4), [1.0, 1.0, 1.0], False),
        (UnchangedTensor(num_steps=4), [1.0, 1.0, 1.0, 1.0], True),
        (UnchangedTensor(), [1.0, 1.0, 2.0, 2.0, 3.0], False),
        (UnchangedTensor(), [1.0, 1.1, 1.2], False),
        (UnchangedTensor(rtol=0.2), [1.0, 1.1, 1.2], True),
        (UnchangedTensor(atol=0.2), [1.0, 1.1, 1.2], True),
        (UnchangedTensor(), [float("nan")] * 3, False),
        (UnchangedTensor(equal_nan=True), [float("nan")] * 3, True),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_weight_that_stays_is_found(
    saved: Saved, rule: UnchangedTensor, steps: list[float], fires: bool, whole: bool
) -> None:
    for value in steps:
        saved.add({WEIGHT: [value]} if whole else reduced(WEIGHT, mean=value, max=value))
    assert (rule.check(saved.tensors) is not None) is fires


@pytest.mark.parametrize("whole", [True, False])
def test_a_weight_that_has_learned_may_stand_at_the_end(saved: Saved, whole: bool) -> None:
    # At the end of a cosine: float32 does not even hold what is left of the updates.
    for value in (1.0, 2.0, 3.0, 3.0 + 1e-6, 3.0 + 1e-6, 3.0 + 1e-6):
        saved.add({WEIGHT: [value]} if whole else reduced(WEIGHT, mean=value, max=value))
    assert UnchangedTensor().check(saved.tensors) is None
    chosen = UnchangedTensor(tensor_regex="fc").check(saved.tensors)
    assert chosen == Finding(4, {"tensor": WEIGHT, "mode": TRAIN, "saved_steps": 3})


# ---- values ----


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("value", "only_nan", "fires"),
    [
        (1.0, False, False),
        (float("inf"), False, True),
        (float("nan"), False, True),
        (float("inf"), True, False),
        (float("nan"), True, True),
    ],
)
def test_infinities_and_what_is_no_number(
    saved: Saved, whole: bool, value: float, only_nan: bool, fires: bool
) -> None:
    saved.add({"x": [1.0, 2.0]})
    saved.add({"y": [1.0, value]} if whole else reduced("y", max=value, std=float("nan")), EVAL)
    found = ExplodingTensor(only_nan=only_nan).check(saved.tensors)
    assert found == (Finding(0, {"tensor": "y", "mode": EVAL}) if fires else None)
    assert ExplodingTensor(tensor_regex="^x").check(saved.tensors) is None


@pytest.mark.parametrize(("threshold", "fires"), [(75.0, True), (75.1, False)])
def test_zeros_are_counted_in_whole_tensors(saved: Saved, threshold: float, fires: bool) -> None:
    saved.add({WEIGHT: [0.0, 0.0, 0.0, 1.0]})
    found = AllZero(threshold=threshold).check(saved.tensors)
    evidence = {"tensor": WEIGHT, "mode": TRAIN, "zeros_percent": 75.0}
    assert found == (Finding(0, evidence) if fires else None)


def test_reductions_tell_whether_all_is_zero(saved: Saved) -> None:
    saved.add(reduced(GRADIENT, abs_max=0.1))
    assert AllZero().check(saved.tensors) is None
    saved.add(reduced(GRADIENT, abs_max=0.0))
    assert AllZero().check(saved.tensors) == Finding(
        1, {"tensor": GRADIENT, "mode": TRAIN, "zeros_percent": 100.0}
    )


@pytest.mark.parametrize(
    ("rule", "fires"),
    [
        (TensorVariance("weights", max_threshold=4.0), False),
        (TensorVariance("weights", max_threshold=3.9), True),
        (TensorVariance("weights", min_threshold=4.0), False),
        (TensorVariance("weights", min_threshold=4.1), True),
        (TensorVariance(" weights , gradients", min_threshold=4.1), True),
        (TensorVariance(tensor_regex="fc", min_threshold=4.1), True),
    ],
)
def test_a_variance_has_two_bounds(saved: Saved, rule: TensorVariance, fires: bool) -> None:
    saved.add({WEIGHT: [1.0, 5.0]})
    evidence = {"tensor": WEIGHT, "mode": TRAIN, "variance": 4.0}
    assert rule.check(saved.tensors) == (Finding(0, evidence) if fires else None)


# ---- activations ----


@pytest.mark.parametrize(("active", "fires"), [(0.009, True), (0.011, False)])
def test_dead_channels_are_counted(saved: Saved, active: float, fires: bool) -> None:
    name = "relu_activity/ResNet_relu"
    saved.add({name: [1.0, 1.0, active, active]})
    assert DeadRelu().check(saved.tensors) is None, "half of them is not most"
    saved.add({name: [1.0, active, active, active]})
    found = DeadRelu().check(saved.tensors)
    assert found == (Finding(1, {"tensor": name, "inactive_percent": 75.0}) if fires else None)


def test_dead_neurons_are_counted_in_whole_outputs(saved: Saved) -> None:
    name = "ResNet_relu_output_0"
    saved.add({name: [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]})
    assert DeadRelu().check(saved.tensors) == Finding(
        0, {"tensor": name, "inactive_percent": 66.67}
    )
    assert DeadRelu(threshold_layer=67).check(saved.tensors) is None
    assert DeadRelu(threshold_inactivity=51).check(saved.tensors) == Finding(
        0, {"tensor": name, "inactive_percent": 100.0}
    )


@pytest.mark.parametrize(("widest", "fires"), [(9.9, False), (10.1, True)])
def test_uneven_activations_are_a_poor_start(saved: Saved, widest: float, fires: bool) -> None:
    names = ("a_relu_input_0", "layer_bn2_output_0")
    first, second = (
        reduced(name, std=std**0.5) for name, std in zip(names, (1.0, widest), strict=True)
    )
    saved.add({**first, **second})
    found = PoorWeightInitialization().check(saved.tensors)
    assert (found is not None) is fires
    if found:
        assert (found.step, found.evidence["largest"]) == (0, names[1])
        assert found.evidence["smallest"] == names[0]
        assert found.evidence["variance_ratio"] == pytest.approx(widest, rel=1e-5)


@pytest.mark.parametrize(
    ("spread", "losses", "fires"),
    [
        (0.0009, [1.0] * 6, True),
        (0.0011, [1.0] * 6, False),
        (0.0009, [1.0] * 5, False),
        (0.0009, [1.0, 1.0, 1.0, 1.0, 1.0, 0.98], False),
        (0.0009, [1.0, 1.0, 1.0, 1.0, 1.0, 0.995], True),
    ],
)
def test_narrow_gradients_are_one_while_the_loss_stands(
    saved: Saved, spread: float, losses: list[float], fires: bool
) -> None:
    for loss in losses:
        saved.add({LOSS: [loss], **reduced(GRADIENT, std=spread / 3.29)})
    found = PoorWeightInitialization().check(saved.tensors)
    assert (found is not None) is fires
    if found:
        assert found.step == 0
        assert found.evidence == {"gradient_range": pytest.approx(spread, rel=1e-5)}


# ---- labels and predictions ----


def answers(saved: Saved, truth: list[int], given: list[int], mode: str = EVAL) -> None:
    saved.add({LABELS: np.array(truth), SCORES: np.eye(3)[given]}, mode)


@pytest.mark.parametrize(("small", "fires"), [(50, False), (49, True)])
def test_classes_of_very_different_size(saved: Saved, small: int, fires: bool) -> None:
    saved.add({LABELS: np.array([0] * 500 + [2] * small)})
    evidence = {"largest_class": 0, "smallest_class": 2, "ratio": round(500 / small, 2)}
    if not fires:
        answers(saved, [0] * 500, [0] * 500)
    found = ClassImbalance().check(saved.tensors)
    assert found == (Finding(0, evidence) if fires else None)


def test_sizes_are_added_up_over_steps_and_wait_for_enough(saved: Saved) -> None:
    for step in range(5):
        saved.add({LABELS: np.array([0] * 96 + [1] * 4)})
        answers(saved, [0], [0])
        found = ClassImbalance(samples=500).check(saved.tensors)
        assert (found.step if found else None) == (4 if step == 4 else None)


def test_a_class_that_is_hardly_known(saved: Saved) -> None:
    saved.add({LABELS: np.array([0, 1, 2] * 200)})
    answers(saved, [0] * 480 + [1] * 20, [0] * 480 + [1] * 5 + [0] * 15)
    assert ClassImbalance().check(saved.tensors) == Finding(0, {"class": 1, "mispredicted": 0.75})
    assert ClassImbalance(threshold_misprediction=0.75).check(saved.tensors) is None
    assert ClassImbalance(samples=501).check(saved.tensors) is None


def mixed(truth: list[int]) -> Array:
    """Labels as mixup makes them: shares of classes, the own one's above the other one's."""
    own: Array = np.eye(3)[truth]
    return 0.7 * own + 0.3 * own[np.random.default_rng(0).permutation(len(own))]


@pytest.mark.parametrize(
    ("truth", "evidence"),
    [
        ([0, 1, 2] * 200, None),
        ([0] * 500 + [2] * 40, {"largest_class": 0, "smallest_class": 2, "ratio": 12.5}),
    ],
)
def test_a_mixed_label_is_of_the_class_with_the_largest_share(
    saved: Saved, truth: list[int], evidence: dict[str, float] | None
) -> None:
    saved.add({LABELS: mixed(truth), SCORES: np.eye(3)[truth]})
    found = ClassImbalance().check(saved.tensors)
    assert found == (Finding(0, evidence) if evidence else None)
    assert Confusion().check(saved.tensors) is None


def test_labels_in_a_column_are_classes(saved: Saved) -> None:
    saved.add({LABELS: np.array([[0], [2]] * 300), SCORES: np.eye(3)[[0, 2] * 300]})
    assert ClassImbalance().check(saved.tensors) is None
    assert Confusion().check(saved.tensors) is None


def test_a_network_that_knows_nothing_yet_is_not_judged(saved: Saved) -> None:
    saved.add({LABELS: np.array([0, 1, 2] * 200)})
    answers(saved, [0] * 200 + [1] * 400, [0] * 600)
    assert ClassImbalance().check(saved.tensors) is None


def test_a_class_taken_for_another(saved: Saved) -> None:
    answers(saved, [0] * 100 + [1] * 100, [0] * 100 + [1] * 92 + [2] * 8)
    assert Confusion(max_off_diag=0.2).check(saved.tensors) is None
    assert Confusion(max_off_diag=0.04).check(saved.tensors) == Finding(
        0, {"class": 1, "taken_for": 2, "share": 0.08}
    )
    assert Confusion(min_diag=0.97).check(saved.tensors) == Finding(
        0, {"class": 1, "recognised": 0.92}
    )


@pytest.mark.parametrize(("count", "fires"), [(9, False), (10, True)])
def test_few_images_tell_nothing(saved: Saved, count: int, fires: bool) -> None:
    answers(saved, [1] * count, [0] * count)
    assert (Confusion().check(saved.tensors) is not None) is fires


def test_only_the_newest_evaluation_counts(saved: Saved) -> None:
    answers(saved, [0] * 50, [1] * 50)
    saved.losses([1.0])
    answers(saved, [0] * 50, [0] * 50)
    answers(saved, [1] * 50, [1] * 50)
    assert Confusion().check(saved.tensors) is None
    answers(saved, [1] * 50, [2] * 50)
    found = Confusion().check(saved.tensors)
    assert found == Finding(3, {"class": 1, "recognised": 0.5})


def test_answers_may_be_classes_themselves(saved: Saved) -> None:
    saved.add({LABELS: np.array([0] * 20), SCORES: np.array([1] * 20)}, GLOBAL)
    found = Confusion(argmax=False).check(saved.tensors)
    assert found == Finding(0, {"class": 0, "recognised": 0.0})


# ---- the course of a training ----


@pytest.mark.parametrize(
    ("mean", "fires"), [(0.19, False), (-0.19, False), (0.21, True), (-0.21, True)]
)
def test_images_that_are_not_centred(saved: Saved, mean: float, fires: bool) -> None:
    images = np.zeros((250, 3, 2, 2))
    images[:, 1] = mean
    name = "ResNet_conv1_input_0"
    saved.add({name: images})
    assert CheckInputImages().check(saved.tensors) is None, "too few"
    saved.add({name: images})
    found = CheckInputImages().check(saved.tensors)
    assert (found is not None) is fires
    if found:
        assert (found.step, found.evidence["tensor"], found.evidence["samples"]) == (1, name, 500)
        assert found.evidence["mean"] == pytest.approx(mean)


def test_reductions_of_images_count_the_labels_beside_them(saved: Saved) -> None:
    name = "ResNet_input_0"
    for _ in range(5):
        saved.add({**reduced(name, mean=0.5), LABELS: np.zeros(100, np.int64)})
    assert CheckInputImages().check(saved.tensors) == Finding(
        4, {"tensor": name, "mean": 0.5, "samples": 500}
    )
    assert CheckInputImages(threshold_samples=501).check(saved.tensors) is None


def test_a_pause_is_told_with_its_length(saved: Saved) -> None:
    saved.add({LOSS: [1.0]}, seconds=1000.0)
    saved.add({LOSS: [1.0]}, seconds=2800.0)
    assert StalledTraining().check(saved.tensors) is None
    saved.add({LOSS: [1.0]}, seconds=4600.26)
    assert StalledTraining().check(saved.tensors) == Finding(2, {"seconds": 1800.3})
    assert StalledTraining(threshold=1799).check(saved.tensors) == Finding(1, {"seconds": 1800.0})


def test_silence_counts_while_the_training_runs(saved: Saved) -> None:
    assert missing(StalledTraining(), saved) == "no tensors were saved"
    saved.add({LOSS: [1.0]}, seconds=time.time() - 2000)
    assert StalledTraining().check(saved.tensors) is None
    found = StalledTraining(live=True).check(saved.tensors)
    assert found is not None
    assert found.step == 0
    assert 2000 <= found.evidence["seconds"] < 2100
    assert StalledTraining(live=True).check(saved.ended().tensors) is None


def test_the_silence_before_a_resume_is_not_the_resumed_trainings(saved: Saved) -> None:
    now, rule = time.time(), StalledTraining(live=True)
    saved.add({LOSS: [1.0]}, seconds=now - 9000)
    assert rule.check(Tensors(saved.directory, since=now - 1000)) is None
    found = rule.check(Tensors(saved.directory, since=now - 2000))
    assert found is not None
    assert 2000 <= found.evidence["seconds"] < 2100


def test_a_hook_that_has_switched_itself_off_is_silent_rightly(saved: Saved) -> None:
    saved.add({LOSS: [1.0]}, seconds=time.time() - 2000)
    (saved.directory / HOOK_OFF_FILE).touch()
    assert StalledTraining(live=True).check(saved.tensors) is None

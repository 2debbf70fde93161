"""`launch.py tune`: the best hyperparameters, found by trying."""

import argparse
from pathlib import Path

from container.errors import UserError
from container.metrics import METRICS, VALIDATION_ACCURACY
from launcher import names, ranges, recipes, training, tuning
from launcher.commands.given import assigned, range_flag, set_flags
from launcher.dataset import Inputs
from launcher.session import Session
from launcher.training import Place
from launcher.tuning import STRATEGIES, Result, Search

HELP = "search for the best hyperparameters"
PAGE_HELP = "where to draw the trials and what mattered, for a browser (tuning.html)"
JOBS = 16
SHOWN = 10


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    set_flags(parser)
    range_flag(parser)
    parser.add_argument(
        "--pretrained", metavar="FILE", help="file or folder with pretrained weights"
    )
    named = ", ".join(f"{recipe.name} ({recipe.meaning})" for recipe in recipes.RECIPES)
    parser.add_argument("--recipe", metavar="NAME", help=f"a search with a name: {named}")
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="Bayesian",
        help="how values are chosen: from what earlier trials taught, at random, by giving up on "
        "weak trials early, or every combination of lists (Bayesian)",
    )
    metrics = ", ".join(metric.name for metric in METRICS)
    parser.add_argument(
        "--objective", metavar="METRIC", help=f"one of {metrics} ({VALIDATION_ACCURACY.name})"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help=f"trials in all ({JOBS}; with --strategy Grid every combination, and no fewer)",
    )
    parser.add_argument("--parallel", type=int, default=2, metavar="N", help="trials at a time (2)")
    parser.add_argument(
        "--epochs", type=int, default=10, metavar="N", help="most epochs of a Hyperband trial (10)"
    )
    parser.add_argument(
        "--no-early-stopping", action="store_true", help="let hopeless trials run to their end"
    )
    parser.add_argument(
        "--warm-start",
        nargs="?",
        const="",
        metavar="NAME",
        help="learn from an earlier tuning (the last one)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="the same seed chooses the same first values; another searches elsewhere (0)",
    )
    parser.add_argument("--page", default="tuning.html", metavar="FILE", help=PAGE_HELP)
    parser.add_argument("--no-wait", action="store_true", help="return when it has started")


def run(session: Session, options: argparse.Namespace) -> int:
    """Check everything, start the tuning, show trials as they end, and the winner."""
    settings, console, store = session.settings, session.console, session.backend.store
    search, fixed = _search(session, options)
    inputs = Inputs(settings, store, options.pretrained)
    name = names.unique(settings.project, "tuning")
    place = Place(session.backend.role, session.backend.image, store.address("tuning"))
    call = tuning.call(tuning.request(settings, name, place, inputs.channels, fixed, search))
    if options.dry_run:
        session.show([call])
        return 0
    session.check(call)
    inputs.bring(console.say)
    session.send(call)
    session.remember(tuning_job=name)
    trials = f"{search.jobs} trials"
    if search.strategy == "Grid":
        trials = f"every combination, {ranges.combinations(search.ranges)} trials"
    console.head(f"Tuning {name} on {inputs.data} ({settings.on})")
    console.say(
        f"  {search.strategy}, {trials}, {search.parallel} at a time: {search.objective.name}"
    )
    console.say(f"  {ranges.described(search.ranges)}")
    if options.no_wait:
        console.result({"tuning_job": name})
        console.next(("./launch.py tuning", "see how it does"))
        return 0
    show(session, tuning.watch(session, name), Path(session.directory, options.page))
    return 0


def show(session: Session, result: Result, page: Path) -> None:
    """The leaderboard, the winner, and the page."""
    # Imported late: Optuna takes a second, which the other commands need not wait for.
    from launcher.importance import importances
    from launcher.tuning_page import page as drawn

    console, best = session.console, result.ranked[0]
    columns = list(best.tuned)
    console.say()
    console.table(
        ["#", result.metric, *columns, "training job"],
        [
            [
                place,
                f"{trial.objective:.4g}",
                *(trial.tuned.get(name, "") for name in columns),
                trial.name,
            ]
            for place, trial in enumerate(result.ranked[:SHOWN], 1)
        ],
    )
    shares = importances(result)
    if shares:
        console.say(
            "What mattered: " + ", ".join(f"{n} {share:.0%}" for n, share in shares.items())
        )
    try:
        page.write_text(drawn(result, shares), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--page {page} cannot be written: {error.strerror}.") from None
    console.say(f"All of it in pictures: {page.name}")
    console.result(
        {
            "tuning_job": result.name,
            "best_training_job": best.name,
            "best_hyperparameters": dict(best.tuned),
            result.metric: best.objective,
            "importances": shares,
            "trials": [
                {"name": t.name, "status": t.status, "objective": t.objective, **t.tuned}
                for t in result.trials
            ],
            "page": str(page),
        }
    )
    console.next(
        ("./launch.py deploy --best", "serve the best trial's model"),
        ("./launch.py train --best", "train again with the best hyperparameters"),
    )


def _search(session: Session, options: argparse.Namespace) -> tuple[Search, dict[str, str]]:
    """What to search, and the hyperparameters that are fixed. Raises UserError."""
    recipe = recipes.recipe(options.recipe) if options.recipe else None
    given = training.hyperparameters(
        session.settings.hyperparameters,
        assigned(recipe.fixed if recipe else ()),
        assigned(options.assignments),
    )
    if options.ranges:
        searched = ranges.read(options.ranges)
    elif recipe:
        searched = [entry for entry in ranges.read(recipe.ranges) if entry.name not in given]
    else:
        searched = ranges.declared_ranges(without=given)
        if options.strategy == "Hyperband":
            searched = [entry for entry in searched if entry.name != "epochs"]
    jobs = ranges.combinations(searched) if options.strategy == "Grid" else JOBS
    goal = tuning.objective(options.objective) if options.objective else None
    search = Search(
        ranges=searched,
        objective=goal or (recipe.objective if recipe else VALIDATION_ACCURACY),
        strategy=options.strategy,
        jobs=jobs if options.jobs is None else options.jobs,
        parallel=options.parallel,
        early_stopping=not options.no_early_stopping,
        epochs=options.epochs,
        warm_start=_parents(session, options),
        seed=options.seed,
    )
    return search, given


def _parents(session: Session, options: argparse.Namespace) -> tuple[str, ...]:
    if options.warm_start is None:
        return ()
    name = options.warm_start or session.last("tuning-job")
    if not name:
        raise UserError("There is no tuning to learn from yet; leave out --warm-start.")
    return (name,)

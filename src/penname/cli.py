"""The command line: one command a stage. Everything heavy is imported inside the commands, so that --help answers at once."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from penname import __version__
from penname.errors import PennameError, UsageError

app = typer.Typer(
    name="penname",
    help="Private text in, synthetic text out, with a differential-privacy guarantee that anyone can check.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130

ConfigAndOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG] [section.key=value ...]",
        help="A YAML config, then settings that win over it. Without CONFIG: the embedded demo on the fictional marketplace.",
        show_default=False,
    ),
]
Out = Annotated[str, typer.Option("--out", metavar="DIR", help="The run folder, or s3://BUCKET/FOLDER. The same folder again goes on where it was.")]


def _load(arguments: list[str] | None) -> Any:
    from penname.config import load_config

    words = list(arguments or [])
    path = Path(words.pop(0)) if words and "=" not in words[0] else None
    stray = [word for word in words if "=" not in word]
    if stray:
        raise UsageError(f"{stray[0]!r}: only one config file can be given, before the settings; a setting looks like section.key=value")
    config = load_config(path, words)
    if config.evaluate.metrics is not None:
        from penname.evaluate.registry import select_metrics

        # A misspelt metric should not wait until after the training.
        select_metrics(config.evaluate.metrics)
    return config


def _run_stages(arguments: list[str] | None, out: str, names: tuple[str, ...] | None = None) -> None:
    import time

    from penname.distributed.launch import read_launch
    from penname.pipeline import STAGE_NAMES, run_stages, summarize
    from penname.progress import format_secs
    from penname.stores.run_folder import open_run_folder

    began = time.monotonic()
    config = _load(arguments)
    launch = read_launch()
    if launch.is_follower:
        from penname.train.follower import follow_training

        # Rank 0 has the run folder; the others wait until it trains.
        follow_training(timeout_secs=config.engine.timeout_secs)
        return
    try:
        folder = open_run_folder(out)
        has_run = run_stages(config, folder.root, names or STAGE_NAMES, after_stage=folder.bring)
        # What an earlier run could not bring, this one does.
        folder.bring()
    finally:
        if launch.num_ranks > 1:
            from penname.distributed.world import dismiss_followers

            dismiss_followers()
    took = format_secs(time.monotonic() - began)
    if not has_run:
        print(f"Nothing to do: {out} is up to date with this config ({took}).")
    else:
        print(f"Done in {took}: {out}")
    for line in summarize(folder.root) if names is None or names[-1] == STAGE_NAMES[-1] else []:
        print(line)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False) -> None:
    if version:
        print(f"penname {__version__}")
        raise typer.Exit


@app.command()
def run(arguments: ConfigAndOverrides = None, out: Out = "runs/demo") -> None:
    """Run all stages: ingest, records, train, generate, evaluate, report.

    Example: penname run configs/clothing_small.yaml privacy.target_epsilon=4 --out runs/clothing
    """
    _run_stages(arguments, out)


@app.command()
def plan(
    arguments: ConfigAndOverrides = None,
    num_units: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Units (users, or records) that the training split will have. The embedded demo knows its own.")
    ] = None,
    record_tokens: Annotated[
        int | None,
        typer.Option(min=2, metavar="T", help="Tokens of a record, prompt included. Without it as many as train.max_record_tokens allows."),
    ] = None,
    read_lengths: Annotated[
        bool, typer.Option("--read-lengths", help="Read some rows of the private data for the lengths of their records; what is said of them is PRIVATE.")
    ] = False,
    model_size: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Memory of a known model on 24 GB and 80 GB, on paper: llama-3.1-8b and others.")
    ] = None,
) -> None:
    """Show epsilon, noise, steps, tokens, time and memory of a run, from a few seconds of measuring. Spends nothing.

    Example: penname plan configs/clothing_small.yaml --num-units 1400
    """
    from penname.plan.plan import plan_run

    for line in plan_run(_load(arguments), num_units=num_units, record_tokens=record_tokens, reads_lengths=read_lengths, model_size=model_size):
        print(line)


@app.command()
def ingest(out: Out, arguments: ConfigAndOverrides = None) -> None:
    """Stage 1: read reviews and products, clean, join, filter; count every reject by reason."""
    _run_stages(arguments, out, ("ingest",))


@app.command()
def records(out: Out, arguments: ConfigAndOverrides = None) -> None:
    """Stage 2: split by user, bound contributions, fill the template."""
    _run_stages(arguments, out, ("records",))


@app.command()
def train(out: Out, arguments: ConfigAndOverrides = None) -> None:
    """Stage 3: train both arms, with and without differential privacy. Charges the ledger."""
    _run_stages(arguments, out, ("train",))


@app.command()
def generate(out: Out, arguments: ConfigAndOverrides = None) -> None:
    """Stage 4: write both synthetic data sets. Charges the ledger once, for the histogram of rating and category."""
    _run_stages(arguments, out, ("generate",))


@app.command()
def evaluate(
    out: Out,
    arguments: ConfigAndOverrides = None,
    real: Annotated[Path | None, typer.Option(metavar="FILE", help="Real rows that the synthetic ones were made from (rating, title, text, category).")] = None,
    heldout: Annotated[Path | None, typer.Option(metavar="FILE", help="Real rows that were not used; none: parts of --real are set aside.")] = None,
    synthetic: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="A synthetic set and its name; may be given several times.")] = None,
) -> None:
    """Stage 5: privacy, fidelity and utility of a run, or of any files.

    Example: penname evaluate --real reviews.csv --synthetic ours=ours.jsonl --synthetic theirs=theirs.csv --out compared
    """
    if real is None and not synthetic:
        if heldout is not None:
            raise UsageError("--heldout needs --real and --synthetic")
        _run_stages(arguments, out, ("evaluate",))
        return
    if real is None or not synthetic:
        raise UsageError("--real FILE and at least one --synthetic NAME=FILE belong together")
    from penname.evaluate.evaluate import evaluate_files
    from penname.evaluate.files import parse_synthetic_options
    from penname.stores.store import is_remote

    if is_remote(out):
        raise UsageError(f"--out {out}: what --real and --synthetic compare is written to a folder on this machine")
    sets, config = parse_synthetic_options(synthetic), _load(arguments)
    evaluate_files(real=real, heldout=heldout, synthetic=sets, out=Path(out), config=config.evaluate, model=config.model)
    print(f"PRIVATE     {Path(out) / 'metrics.json'}")


@app.command()
def report(out: Out, arguments: ConfigAndOverrides = None) -> None:
    """Stage 6: report.html, metrics.json, and release/ with its certificate."""
    _run_stages(arguments, out, ("report",))


@app.command()
def audit(arguments: ConfigAndOverrides = None, out: Out = "runs/audit") -> None:
    """Attack a twin run with planted secrets: leaks, exposure, membership, lower bounds on epsilon. Exit 1 where more is found than epsilon allows.

    Example: penname audit configs/clothing_small.yaml audit.max_records_scored=400 --out runs/clothing_audit
    """
    import time

    from penname.audit.audit import DEFAULT_CONFIG, check_launch, check_verdict, run_audit
    from penname.distributed.launch import read_launch
    from penname.pipeline import summarize
    from penname.progress import format_secs
    from penname.stores.run_folder import open_run_folder

    began, words = time.monotonic(), list(arguments or [])
    config = _load(words if words and "=" not in words[0] else [str(DEFAULT_CONFIG), *words])
    check_launch(read_launch().num_ranks)
    folder = open_run_folder(out)
    has_run = run_audit(config, folder.root, after_stage=folder.bring)
    folder.bring()
    took = format_secs(time.monotonic() - began)
    print(f"Done in {took}: {out}" if has_run else f"Nothing to do: {out} is up to date with this config ({took}).")
    for line in summarize(folder.root):
        print(line)
    check_verdict(folder.root)


@app.command()
def verify(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A release folder, or a run that has one.")]) -> None:
    """Recompute epsilon from the ledger and check every hash. Exit 0 when all holds, 1 with the reason when not."""
    from penname.privacy.certificate import CERTIFICATE_NAME, verify_release

    release = folder if (folder / CERTIFICATE_NAME).is_file() else folder / "release"
    print(f"VERIFIED {release}: {verify_release(release)}")


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or a folder of run folders.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="P", help="0 takes any that is free.")] = 8765,
    host: Annotated[str, typer.Option("--host", metavar="H", help="An address beyond this machine needs a token.")] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="PENNAME_TOKEN", metavar="TOKEN", help="Who opens the page must have it; `new` makes one and prints the link."),
    ] = None,
    allow_host: Annotated[list[str] | None, typer.Option("--allow-host", metavar="NAME", help="Another name that requests may use, such as a proxy's.")] = None,
    sample: Annotated[int | None, typer.Option("--sample", min=1, metavar="N", help="Records of each set that people judge, where none are drawn yet.")] = None,
) -> None:
    """Open the web page: runs, reports, records, and blind human evaluation. On this machine only, unless there is a token.

    Example: penname serve runs/demo
    """
    from penname.web.serve import serve as serve_folder

    serve_folder(folder, say=lambda line: print(line, flush=True), host=host, port=port, token=token, allowed_hosts=tuple(allow_host or ()), num_per_arm=sample)


ratings_app = typer.Typer(no_args_is_help=True, help="Answers of people: export, import, sum up.", context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(ratings_app, name="ratings")
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")]


@ratings_app.command("export")
def export_answers(
    folder: RunFolder, out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Ends with .csv or .jsonl.")] = Path("ratings.csv")
) -> None:
    """Write every answer as CSV or JSON lines. PRIVATE: it names raters and arms.

    Example: penname ratings export runs/demo --out ratings.csv
    """
    from penname.evaluate.human.study import export_to_file

    print(f"PRIVATE     {out}  ({export_to_file(folder, out):,} answers)")


@ratings_app.command("import")
def import_answers(folder: RunFolder, file: Annotated[Path, typer.Argument(metavar="FILE", help="As exported, .csv or .jsonl.")]) -> None:
    """Add answers to the same sample that were given elsewhere, all or none.

    Example: penname ratings import runs/demo ratings.csv
    """
    from penname.evaluate.human.study import import_from_file

    num_added, num_kept = import_from_file(folder, file)
    print(f"{num_added:,} answers added; {num_kept:,} left alone, because they were there or the rater has answered later")


@ratings_app.command("summarise")
def summarise_answers(folder: RunFolder) -> None:
    """Write the figures of the answers into the run; `penname report` then shows them.

    Example: penname ratings summarise runs/demo
    """
    from penname.evaluate.human.study import summarise_folder

    for line in summarise_folder(folder):
        print(line)


@app.command("sample-data")
def sample_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the three files are written.")],
    reviews: Annotated[int, typer.Option("--reviews", min=1, metavar="N", help="How many reviews.")] = 6000,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="The same seed writes the same bytes.")] = 1,
) -> None:
    """Write the fictional marketplace: reviews, products and facts, in the layout of Amazon Reviews 2023."""
    from penname.ingest.sample_data import write_sample_data

    write_sample_data(folder, num_reviews=reviews, seed=seed)
    for path in sorted(folder.iterdir()):
        print(path)


@app.command()
def fetch(
    data_set: Annotated[str, typer.Argument(metavar="DATA_SET", help="amazon-reviews-2023", show_default=False)],
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="One of its 33 categories, such as All_Beauty.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go. The same folder again goes on where it was.")],
    base_url: Annotated[str | None, typer.Option("--base-url", metavar="URL", help="Another place of the same layout.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="From the Hugging Face hub; its files are not compressed.")] = False,
    checksums: Annotated[Path | None, typer.Option("--checksums", metavar="FILE", help="Lines of sha256sum that the files must match.")] = None,
) -> None:
    """Fetch the reviews and the product metadata of a category; both are checked to their last byte.

    Example: penname fetch amazon-reviews-2023 All_Beauty --out data/amazon
    """
    from penname.ingest.fetch import fetch_category

    paths, has_fetched = fetch_category(data_set, category, out, base_url=base_url, mirror=mirror, checksums=checksums)
    if not has_fetched:
        print(f"Nothing to do: {out} has both files, and they are what {out / 'SHA256SUMS'} says.")
    for path in paths:
        print(path)


def _fail(message: str, code: int) -> NoReturn:
    print(f"penname: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _explain_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full; free some space and run the same command again: what was finished is kept"
    return f"{where}{error.strerror or error}"


def _explain_unexpected() -> str:
    """A bug of ours: one line, and the traceback in a file for the report."""
    handle, name = tempfile.mkstemp(prefix="penname-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        traceback.print_exc(file=log)
    kind, value, _ = sys.exc_info()
    return f"unexpected error ({kind.__name__ if kind else ''}: {str(value)[:200]}); this is a bug, its details are in {name}"


def _raise_interrupt(_signum: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """The entry point: every error is one line on standard error and an exit code."""
    # SIGINT too: a job that a shell starts in the background inherits "ignore", and could not be stopped in order.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _raise_interrupt)
    try:
        # Typer turns an interrupt into this exit code, or, before version 0.16, into Abort.
        if app(standalone_mode=False) == _INTERRUPTED:
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; what was finished is kept, run the same command again to go on", _INTERRUPTED)
    except PennameError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        _fail(_explain_os_error(error), 1)
    except Exception as error:
        _fail(*_explain(error))


def _explain(error: Exception) -> tuple[str, int]:
    """The line and the exit code for an error that is not one of ours."""
    # Typer carries its own copy of click, whose exceptions have no public name.
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        message = format_message()
        if "Commands:" in message:
            print(message)
            sys.exit(2)
        return f"{message} (see penname --help)", 2
    from penname.privacy.errors import PrivacyError

    if isinstance(error, PrivacyError):
        return str(error), 1
    if isinstance(error, ImportError):
        return f"{error}; install it, or reinstall penname with `make setup`", 1
    if isinstance(error, MemoryError):
        return "out of memory; make generate.batch_size smaller or set train.gradient_checkpointing=true, and run the same command again", 1
    return _explain_unexpected(), 1


if __name__ == "__main__":
    main()

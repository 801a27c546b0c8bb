"""``mlpipex manifest …``: check, compare and describe deployment manifests."""

from __future__ import annotations

import json

import typer

from airflow_provider_mlpipex.cli.terminal import AsJson, ManifestFile, emit
from airflow_provider_mlpipex.manifest_files import load_manifest_file

app = typer.Typer(no_args_is_help=True, help="Check, compare and describe deployment manifests.")


@app.command()
def schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of manifests, for editors and linters; it is JSON either way."""
    from airflow_provider_mlpipex.domain.manifest.schema import manifest_schema

    written = manifest_schema()
    emit(written, as_json, lambda: json.dumps(written, indent=2))


@app.command()
def validate(file: ManifestFile, as_json: AsJson = False) -> None:
    """Say whether a manifest can work; every defect at once, with its line. Then what works less well than it looks."""
    from airflow_provider_mlpipex.domain.validation.loading import field_name
    from airflow_provider_mlpipex.domain.validation.rules import cautions

    manifest = load_manifest_file(file)
    cautious = [
        {
            "field": field_name(caution.path),
            "value": str(caution.value),
            "limit": caution.limit,
            "remedy": caution.remedy,
        }
        for caution in cautions(manifest)
    ]
    emit(
        {"name": manifest.name, "digest": manifest.digest, "cautions": cautious},
        as_json,
        lambda: "\n".join(
            [
                f"{file}: {manifest.name} is valid, digest {manifest.digest[:12]}",
                *(
                    f"  caution: {problem['field']}: {problem['value']} is {problem['limit']}; {problem['remedy']}"
                    for problem in cautious
                ),
            ]
        ),
    )


@app.command()
def diff(before: ManifestFile, after: ManifestFile, as_json: AsJson = False) -> None:
    """Typed differences between two manifests, and the review that they open in each environment."""
    from airflow_provider_mlpipex.domain.manifest import diff as typed_diff
    from airflow_provider_mlpipex.domain.manifest.review_block import review_needed

    wanted = load_manifest_file(after)
    changes = typed_diff.diff(load_manifest_file(before), wanted)
    reviews = {}
    for name, environment in wanted.environments.items():
        if environment.review is not None:
            needs_person, why, policy = review_needed(changes, environment.review)
            reviews[name] = {"needs_person": needs_person, "why": why, "auto_approved_by": policy}

    def text() -> str:
        if not changes:
            return "no difference"
        lines = [f"{change.kind:15} {change.what}: {change.before} -> {change.after}" for change in changes]
        lines += [
            f"{name}: {'review by a person' if r['needs_person'] else 'no person needed'} ({r['why']})"
            for name, r in reviews.items()
        ]
        return "\n".join(lines)

    emit({"changes": [change.to_json() for change in changes], "reviews": reviews}, as_json, text)

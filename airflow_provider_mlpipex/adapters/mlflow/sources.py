"""Models that other pipelines logged: what a reference stands for now, and the model in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mlpipex.domain.errors import ModelNotFound, RegistrationRefused
from airflow_provider_mlpipex.domain.release.adoption import FetchedModel, ModelReference, ModelSource

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

#: Tag of the versions that this provider registers itself.
VERSION_TAG = "mlpipex.version"
_COMMIT = "mlflow.source.git.commit"
_CONTEXT = "mlflow.data.context"
#: What MLflow answers of something that it does not have.
_MISSING = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


def resolve(client: MlflowClient, reference: ModelReference, *, at: str) -> ModelSource:
    """What ``reference`` stands for at this moment; nothing is downloaded.

    :param at: address of the registry, for messages.
    :raises ModelNotFound: nothing stands there.
    :raises RegistrationRefused: it is a version that this provider registered.
    """
    from mlflow.exceptions import MlflowException

    try:
        match reference.kind:
            case "version" | "alias" | "latest":
                return _of_version(client, _version(client, reference))
            case "logged":
                logged = client.get_logged_model(reference.which)
                return _of_run(
                    client, reference.text, str(logged.source_run_id or ""), params=dict(logged.params or {})
                )
            case "run":
                return _of_run(client, reference.text, reference.name)
            case _:
                return ModelSource(uri=reference.text)
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise
        raise not_there(reference, at=at) from error


def download(client: MlflowClient, source: ModelSource, folder: Path, *, tracking_uri: str, at: str) -> Path:
    """The model directory of ``source`` below ``folder``.

    Only ``client``'s server is asked: left to itself MLflow would look behind ``models:`` and ``runs:`` wherever this
    process has set it to.

    :raises ModelNotFound: its version or run is there, and no model in it.
    """
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    reference = ModelReference.parse(source.uri)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        uri = _location(client, reference)
        if uri.startswith("runs:"):
            return Path(client.download_artifacts(reference.name, reference.which, str(folder)))
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=tracking_uri))
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise
        raise not_there(reference, at=at) from error
    except OSError as error:
        raise not_there(reference, at=at) from error


def _location(client: MlflowClient, reference: ModelReference) -> str:
    """Where the bytes are: a run's model may lie in the run itself, or in a logged model that the run has put out."""
    if reference.kind == "version":
        reference = ModelReference.parse(client.get_model_version_download_uri(reference.name, reference.which))
    if reference.kind == "logged":
        return str(client.get_logged_model(reference.which).artifact_location)
    if reference.kind == "run":
        outputs = client.get_run(reference.name).outputs
        for output in outputs.model_outputs if outputs else []:
            logged = client.get_logged_model(output.model_id)
            if logged.name == reference.which:
                return str(logged.artifact_location)
    return reference.text


def not_there(reference: ModelReference, *, at: str) -> ModelNotFound:
    return ModelNotFound(
        f"model to adopt, in MLflow at {at}",
        value=reference.text,
        limit="a model, version or alias that is there",
        remedy="check the name in MLflow's UI, and that the connection names the same server",
    )


def read_folder(source: ModelSource, folder: Path) -> FetchedModel:
    """What stands in a downloaded model directory; nothing of it is unpickled yet.

    :raises RegistrationRefused: it is no MLflow model that can be asked for predictions.
    :raises ArtifactMismatch: it holds nothing, or symbolic links.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    from airflow_provider_mlpipex.serving.artifacts import directory_digest

    try:
        model = Model.load(str(folder))
    except (MlflowException, OSError, ValueError, TypeError) as error:
        raise _refused(source, f"no MLmodel file: {type(error).__name__}", "an MLflow model directory") from error
    flavors = dict(model.flavors or {})
    if "python_function" not in flavors:
        raise _refused(source, f"flavors {', '.join(flavors) or 'none'}", "a model with the python_function flavor")
    signature: dict[str, object] | None = model.signature.to_dict() if model.signature is not None else None
    return FetchedModel(
        source=source,
        folder=folder,
        digest=directory_digest(folder),
        signature=signature,
        loader=str(flavors["python_function"].get("loader_module", "")),
    )


def load(fetched: FetchedModel) -> Any:
    """The model itself, as an MLflow pyfunc. It runs code of whoever logged it.

    :raises RegistrationRefused: it cannot be loaded here.
    """
    import mlflow.pyfunc

    try:
        return mlflow.pyfunc.load_model(str(fetched.folder))
    except Exception as error:  # whatever a pickle of somebody else raises
        raise RegistrationRefused(
            f"model {fetched.source.uri}",
            value=f"{type(error).__name__}: {error}"[:300],
            limit="a model that can be loaded where it is adopted",
            remedy=f"install what its requirements.txt names ({fetched.loader or 'its flavor'}) where this runs, and "
            "its own code; then adopt it again",
        ) from error


def _version(client: MlflowClient, reference: ModelReference) -> MlflowVersion:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

    match reference.kind:
        case "version":
            return client.get_model_version(reference.name, reference.which)
        case "alias":
            return client.get_model_version_by_alias(reference.name, reference.which)
    versions = client.search_model_versions(f"name='{reference.name}'", order_by=["version_number DESC"], max_results=1)
    if not versions:
        raise MlflowException(f"{reference.name} has no version", error_code=RESOURCE_DOES_NOT_EXIST)
    return versions[0]


def _of_version(client: MlflowClient, held: MlflowVersion) -> ModelSource:
    if VERSION_TAG in held.tags:
        raise RegistrationRefused(
            f"model {held.name}, version {held.version}",
            value=f"registered here as {held.tags[VERSION_TAG]}",
            limit="a model that another pipeline logged",
            remedy=f"release it as it is: model: {{name: {held.name}, version: {held.tags[VERSION_TAG]}}}",
        )
    return _of_run(client, f"models:/{held.name}/{held.version}", str(held.run_id or ""), number=int(held.version))


def _of_run(
    client: MlflowClient, uri: str, run_id: str, *, number: int | None = None, params: dict[str, str] | None = None
) -> ModelSource:
    """With what its run says of it; a run that is gone, or of another server, says nothing."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return ModelSource(uri=uri, number=number, parameters=params or {})
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in _MISSING or uri.startswith("runs:"):
            raise
        return ModelSource(uri=uri, number=number, parameters=params or {})
    trained_on = [
        f"{each.dataset.name} {each.dataset.digest}"
        for each in (run.inputs.dataset_inputs if run.inputs else [])
        if any(tag.key == _CONTEXT and tag.value.startswith("train") for tag in each.tags)
    ]
    return ModelSource(
        uri=uri,
        number=number,
        run_id=run_id,
        code_version=str(run.data.tags.get(_COMMIT, "")),
        training_data=", ".join(trained_on),
        parameters={**dict(run.data.params), **(params or {})},
    )


def _refused(source: ModelSource, value: str, limit: str) -> RegistrationRefused:
    return RegistrationRefused(
        f"model {source.uri}",
        value=value,
        limit=limit,
        remedy="log it with mlflow.<flavor>.log_model, and adopt what that returns",
    )

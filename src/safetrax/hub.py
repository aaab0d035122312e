"""Files to and from the Hugging Face hub, by its own client. HF_ENDPOINT names a mirror, HF_TOKEN who you are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from safetrax._version import __version__
from safetrax.errors import DataError, RunError

Kind = Literal["model", "dataset"]


def push(
    repo_id: str, kind: Kind, files: Mapping[str, Path], card: str, *, license: str, tags: list[str], private: bool
) -> str:
    """Put files and a card into a repository, which is made if there is none, in one commit: all of it or nothing.

    Args:
        repo_id: `owner/name`.
        kind: of repository.
        files: by their names in it.
        card: Markdown.
        license: as the hub names it, such as "apache-2.0".
        tags: by which it is found.
        private: whether a new repository is.

    Returns:
        Its address.

    Raises:
        RunError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, DatasetCardData, HfApi, ModelCardData

    known = ["safetrax", "offline-reinforcement-learning", *tags]
    head: ModelCardData | DatasetCardData = DatasetCardData(license=license, tags=known)
    if kind == "model":
        head = ModelCardData(license=license, tags=known, library_name="safetrax")
    readme = f"---\n{head.to_yaml()}\n---\n\n{card}".encode()
    contents: dict[str, Path | bytes] = {**files, "README.md": readme}
    api = HfApi(library_name="safetrax", library_version=__version__)
    with _explained(repo_id):
        url = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
        api.create_commit(repo_id, operations, repo_type=kind, commit_message=f"With SafeTraX {__version__}")
    return str(url)


def fetch(repo_id: str, kind: Kind, name: str, revision: str | None) -> Path:
    """A file of a repository; what is in the client's cache already is not fetched again.

    Raises:
        RunError: there is no such repository or file, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download

    with _explained(repo_id):
        return Path(
            hf_hub_download(
                repo_id,
                name,
                repo_type=kind,
                revision=revision,
                library_name="safetrax",
                library_version=__version__,
            )
        )


@contextlib.contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Whatever the hub's client raises inside the block is a sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise DataError(f"{repo_id!r} is no name on the hub; write OWNER/NAME.") from error
    except errors.GatedRepoError as error:
        raise RunError(f"{repo_id} is gated; ask for access on its page, and set HF_TOKEN.") from error
    except errors.RepositoryNotFoundError as error:
        raise RunError(f"the hub knows no {repo_id}, or it is private: check the name, or set HF_TOKEN.") from error
    except errors.RevisionNotFoundError as error:
        raise RunError(f"{repo_id} has no such revision; look at its history.") from error
    except errors.RemoteEntryNotFoundError as error:
        raise RunError(f"{repo_id} holds no file of that name; SafeTraX did not push it.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise RunError(f"{repo_id} is not on this machine, and the hub cannot be reached.") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "nothing"
        remedy = "set HF_TOKEN to one that may write there" if status in (401, 403) else "try again later"
        raise RunError(f"the hub answered {status} about {repo_id}; {remedy}.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise RunError(
                f"what is fetched cannot be kept ({error.strerror}); free some space, or set HF_HOME."
            ) from error
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(f"the hub could not be reached for {repo_id} ({words}); try again later.") from error

"""DuckDB connections that read a store's files and write nothing."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from gossamer.errors import GossamerError, UsageError
from gossamer.files import needed
from gossamer.store.location import EXTRA, Location
from gossamer.store.manifest import EXPLANATIONS, VOCABULARY, StoreManifest

Answer = TypeVar("Answer")


def connect(location: Location) -> Any:
    """A connection in memory that may read the location's files."""
    duckdb = needed("duckdb", "a feature store", EXTRA)
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute("SET enable_progress_bar = false")
    # What row groups hold is read once a connection, not once a question: half of what a question costs.
    connection.execute("SET parquet_metadata_cache = true")
    connection.execute(f"SET temp_directory = {quoted(tempfile.gettempdir() + '/gossamer-duckdb')}")
    location.register(connection)
    connection.execute("SET lock_configuration = true")
    return connection


def create_views(connection: Any, location: Location, manifest: StoreManifest) -> None:
    """The tables of a store by name.

    activations, activations_by_token: site, latent, document, position, token, text, value, in the two orders;
    tokens: document, position, token, text, counted; statistics, examples, words: a row a latent, example and word;
    neighbours: other_site, other_latent, rank, cosine of decoder rows; vocabulary: token, text; explanations: site,
    latent, text, method, scorer, score.
    """
    tables = {
        name: f"read_parquet({_paths(location, [one for one in manifest.files if one.startswith(f'{folder}/')])})"
        for name, folder in (
            ("by_latent", "by_latent"),
            ("by_token", "by_token"),
            ("stored_tokens", "tokens"),
            ("statistics", "statistics"),
            ("examples", "examples"),
            ("words", "words"),
            ("neighbours", "neighbours"),
        )
        if any(one.startswith(f"{folder}/") for one in manifest.files)
    }
    tables["vocabulary"] = f"read_parquet({_paths(location, [VOCABULARY])})"
    if location.size(EXPLANATIONS) is not None:
        tables["explanations"] = f"read_parquet({_paths(location, [EXPLANATIONS])})"
    for name, source in tables.items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}")
    for name, source in (("activations", "by_latent"), ("activations_by_token", "by_token")):
        columns = "site, latent, document, position, token, text, value"
        connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM {source} LEFT JOIN vocabulary USING (token)")
    connection.execute(
        "CREATE VIEW tokens AS SELECT document, position, token, text, counted "
        "FROM stored_tokens LEFT JOIN vocabulary USING (token)"
    )


def entries_of_site(connection: Any, location: Location, manifest: StoreManifest, site: str) -> Any:
    """Arrow batches of (latent, document, position, value) of a site, sorted by the first three."""
    names = [name for shard in manifest.shards for name in shard.files if name.startswith("by_latent/")]
    query = (
        f"SELECT latent, document, position, value FROM read_parquet({_paths(location, names)}) "
        f"WHERE site = {quoted(site)} ORDER BY latent, document, position"
    )
    with database_errors("a store's shards", asked=False):
        return connection.sql(query).to_arrow_reader(1 << 18)


def quoted(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def require_select(connection: Any, query: str) -> None:
    """Refuse SQL that is not one question.

    Raises:
        UsageError: it is no SQL, several statements, or one that could change something.
    """
    duckdb = needed("duckdb", "a feature store", EXTRA)
    with database_errors(query):
        statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UsageError(f"query: one SELECT expected, found {query!r}; a store is only read")


def interruptible(connection: Any, work: Callable[[], Answer]) -> Answer:
    """Do `work`, a query of the connection, so that Ctrl-C ends it: DuckDB looks for no signals while it computes."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(work)
        try:
            return asked.result()
        except KeyboardInterrupt:
            # A query that is still being planned would forget that it was stopped.
            while not asked.done():
                connection.interrupt()
                wait([asked], timeout=0.05)
            raise


@contextlib.contextmanager
def database_errors(what: str, *, asked: bool = True) -> Iterator[None]:
    """Turn what DuckDB raises into one line: damage to files is one kind of error, a wrong query another.

    Args:
        what: the query, or the files.
        asked: whether a user wrote the query; where not, nothing but files can be wrong.
    """
    duckdb = needed("duckdb", "a feature store", EXTRA)
    wrong = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError, duckdb.PermissionException)
    try:
        yield
    except duckdb.Error as error:
        reason = _reason(error)
        if asked and isinstance(error, wrong):
            raise UsageError(f"query {what!r}: {reason}") from error
        raise GossamerError(f"{what}: could not be read ({reason}); 'gossamer store verify' names damage") from error


def _reason(error: Exception) -> str:
    """What DuckDB says, without the statement that it shows below: a user knows their own, and did not write ours."""
    return " ".join(str(error).split("\nLINE ")[0].split())


def _paths(location: Location, names: Sequence[str]) -> str:
    return f"[{', '.join(quoted(location.path(name)) for name in names)}]"

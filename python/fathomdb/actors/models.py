"""Models: which embedder works for which profile of the file, matched by fingerprint."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fathomdb.actors.closing import begin_close
from fathomdb.actors.model import Model
from fathomdb.embedders import registry
from fathomdb.errors import FathomError
from fathomdb.redact import redact
from fathomdb.store import profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from fathomdb.actors.counters import Counters
    from fathomdb.actors.event_loop import EventLoop
    from fathomdb.config import EngineConfig
    from fathomdb.embedders.protocol import Embedder
    from fathomdb.search.result import Degraded
    from fathomdb.store.connection import Connection
    from fathomdb.store.profiles import Profile


@dataclass(frozen=True, slots=True)
class NoModel:
    """Why no model works for a profile, as a search says it."""

    degraded: Degraded
    reason: str


NOT_CONFIGURED = NoModel(
    "no_embedder",
    "no embedder is configured; pass embedder= to fathomdb.open or call admin.configure_embedding",
)


class Parts(NamedTuple):
    """What every model of an engine works with; async embedders are awaited on the one loop."""

    config: EngineConfig
    counters: Counters
    event_loop: EventLoop


@dataclass(slots=True, eq=False)
class Given:
    """An embedder as it was given; ``built`` while it is ours to close, since a name built it."""

    embedder: Embedder
    built: bool

    @staticmethod
    def of(spec: object) -> Given:
        """What ``registry.resolve`` makes of it."""
        return Given(registry.resolve(spec), isinstance(spec, str))

    def model(self, parts: Parts, profile: Profile) -> Model:
        """A model that has it, and closes it where it was built."""
        built, self.built = self.built, False
        return Model(self.embedder, profile, *parts, built=built)

    def close_unused(self) -> None:
        """Closes it where it was built and no model has it."""
        if self.built:
            begin_close(self.embedder)


class Models:
    """The models of the profiles that the file wants; safe for any thread.

    A profile's embedder is the one of its fingerprint among those that were offered, or the local
    plugin that the file remembers for it. The file says which profiles there are: ``refresh`` reads
    it, and is called after each step of a switch, by whoever made it or found it made.

    Args:
        parts: For the models.
        snapshot: Reads the file.
        on_change: Called with the models in the order in which their work goes.
    """

    def __init__(
        self,
        parts: Parts,
        snapshot: Callable[[], AbstractContextManager[Connection]],
        on_change: Callable[[tuple[Model, ...]], None],
    ) -> None:
        self.parts = parts
        self._snapshot = snapshot
        self._on_change = on_change
        # Held while the file is read: who reads later sees no less than who read before.
        self._lock = threading.RLock()
        self._offered: dict[str, object] = {}
        self._models: dict[int, Model] = {}
        self._reasons: dict[int, NoModel] = {}
        self._nobody: NoModel | None = None
        self._active: Model | None = None
        self._why_none = NOT_CONFIGURED
        self._closed = False

    # --- looking ----------------------------------------------------------------------------------

    @property
    def active(self) -> Model | None:
        """The model of the active profile."""
        return self._active

    @property
    def why_none(self) -> NoModel:
        """Why the active profile has no model, where it has none."""
        return self._why_none

    def get(self, profile_id: int) -> Model | None:
        """The model of a profile, or None."""
        return self._models.get(profile_id)

    def why_not(self, profile: Profile) -> NoModel:
        """Why a profile has no model, where it has none."""
        if profile.state == "active":
            return self._why_none
        return self._nobody or self._reasons.get(profile.profile_id) or _pass_it(profile)

    def every(self) -> list[Model]:
        """All models, in no order."""
        return [*self._models.values()]

    # --- changing ---------------------------------------------------------------------------------

    def offer(self, spec: object, fingerprint: str) -> None:
        """An embedder, or the name of one, to be used where a profile of its fingerprint is wanted."""
        with self._lock:
            self._offered[fingerprint] = spec

    @contextmanager
    def offering(self, given: Given, spec: object) -> Iterator[None]:
        """Offers an embedder while its profile is added, and what it was made of from then on.

        A search may come between that commit and ``put``: it finds the embedder here.
        """
        fingerprint = given.embedder.identity().fingerprint
        with self._lock:
            before = self._offered.get(fingerprint)
            self._offered[fingerprint] = given
        kept = before
        try:
            yield
            kept = spec
        finally:
            with self._lock:
                if kept is None:
                    self._offered.pop(fingerprint, None)
                else:
                    self._offered[fingerprint] = kept

    def refuse_all(self, why: NoModel) -> None:
        """No profile gets a model by itself from now on."""
        with self._lock:
            self._nobody = self._why_none = why
        self.refresh()

    def say(self, why: NoModel) -> None:
        """Why the active profile has no model, in the words of whoever chose."""
        self._why_none = why

    def put(self, *models: Model) -> None:
        """Has models work for their profiles, in place of those that did."""
        with self._lock:
            for model in models:
                before = self._models.get(model.profile.profile_id)
                self._models[model.profile.profile_id] = model
                if self._closed:
                    model.close()  # ``close`` may have closed the one before
                if before is not None and before is not model:
                    before.close()
        self.refresh()

    def refresh(self) -> None:
        """Reads which profiles there are: finds their embedders, lets go of models of no profile."""
        with self._lock:
            if self._closed:
                return
            with self._snapshot() as db:
                wanted = profiles.wanted(db)
            ids = {profile.profile_id for profile in wanted}
            gone = [self._models.pop(key) for key in [*self._models] if key not in ids]
            for profile in wanted:
                model = self._models.get(profile.profile_id) or self._find(profile)
                if model is not None:
                    self._models[profile.profile_id] = model
                    if model.profile.dimension is None or profile.dimension is not None:
                        model.profile = profile
            active = next((item for item in wanted if item.state == "active"), None)
            changed = self._active
            self._active = None if active is None else self._models.get(active.profile_id)
            if active is not None and self._active is None and self._nobody is None:
                known = self._reasons.get(active.profile_id)
                if known is not None and (changed is not None or self._why_none is NOT_CONFIGURED):
                    self._why_none = known
            self._on_change(
                tuple(
                    self._models[profile.profile_id]
                    for profile in wanted
                    if profile.profile_id in self._models and not profile.paused
                )
            )
        for model in gone:
            model.close()

    def _find(self, profile: Profile) -> Model | None:
        if self._nobody is not None:
            return None
        spec = self._offered.get(profile.fingerprint)
        if spec is None:
            if profile.profile_id in self._reasons:
                return None  # looked for before
            spec = profile.plugin
        if spec is None:
            self._reasons[profile.profile_id] = _pass_it(profile)
            return None
        try:
            given = spec if isinstance(spec, Given) else Given.of(spec)
            found = given.embedder.identity()
        except FathomError as error:
            self._reasons[profile.profile_id] = NoModel(
                "no_embedder",
                f"the file's model is {profile}, and its embedder cannot be built: "
                f"{redact(str(error))}",
            )
            return None
        if found.fingerprint != profile.fingerprint:
            given.close_unused()
            self._reasons[profile.profile_id] = NoModel(
                "no_embedder",
                f"the file's model is {profile}, but the plugin {profile.plugin!r} is now {found}; "
                "vectors of the two cannot be compared",
            )
            return None
        return given.model(self.parts, profile)

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends all models; idempotent, and waits for none."""
        with self._lock:
            self._closed = True
            models = self.every()
        for model in models:
            model.close()


def _pass_it(profile: Profile) -> NoModel:
    return NoModel(
        "no_embedder", f"the file's model is {profile}; pass its embedder to fathomdb.open"
    )

"""A reenactment put together, for scripts and the page alike: networks and geometry in, results out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datasets.boundary import style_of
from inference.backends import open_backend
from inference.film import Film, open_painter
from inference.geometry import NeutralToNeutral, Shape, read_geometry
from inference.inputs import Input, shape_of_source
from inference.motion import Motion, is_whole
from inference.pictures import FaceFrame
from inference.reenactor import Backend, MissingFaces, Reenactor, Result
from inference.steady import SMOOTH
from inference.trained import Networks, Trained
from utils.parallel import close_iterator, prefetched

RESULTS_AHEAD = 4


def open_reenactor(
    frames_in: Input,
    networks: Networks,
    context: str,
    backend: str = "auto",
    batch_size: int = 1,
    smooth: float | None = None,
    motion: str = "all",
    strength: float = 1.0,
    film: Film | None = None,
) -> Reenactor:
    """Load the networks, and find how landmarks are moved where no transformer does it.

    Args:
        networks: the decoder, and encoder and transformer if they take part.
        context: `cpu` or `cudnn`, which nnabla computes on.
        backend: as of the command line.
        batch_size: as of `Reenactor`.
        smooth: as of `Reenactor`; None steadies landmarks that were found in pictures, and nothing else.
        motion, strength: as of `Motion`.
        film: of the target, to paint with; it may be of another person than the decoder's.

    Raises:
        ConfigError: what is asked for does not go together.
        DataError: there is no face to begin with.
        WeightsError: weights are missing, damaged or of another network.
    """
    decoder, geometry, chosen = networks["decoder"], None, None
    is_chosen = not is_whole(motion, strength)
    target = decoder.config.trg_celeb_name if film is None else film.person
    source_shape = None
    if "transformer" not in networks:
        shape = target_shape(decoder, film)
        drives_itself = frames_in.truth is not None and frames_in.truth.person == target
        source_shape = shape if drives_itself else shape_of_source(frames_in)
        geometry = NeutralToNeutral(source_shape, shape)
    elif is_chosen:
        source_shape = shape_of_source(frames_in)
    if is_chosen:
        chosen = Motion(motion, strength, source_shape.neutral)
    if smooth is None:
        are_found = frames_in.truth is None and frames_in.is_film and "encoder" not in networks
        smooth = SMOOTH if are_found else 0.0
    batch_size = min(batch_size, frames_in.count or batch_size)
    computing = open_backend(backend, context, networks, batch_size)
    return Reenactor(
        computing,
        batch_size,
        smooth,
        frames_in.truth,
        target,
        networks,
        geometry,
        style=style_of(decoder.config),
        motion=chosen,
        fps=float(frames_in.fps),
        film=None if film is None else open_painter(film, decoder, computing, batch_size),
    )


def target_shape(decoder: Trained, film: Film | None) -> Shape:
    """Return the shape of the face that is shown: the decoder's person, or the film's, if that is somebody else.

    Raises:
        WeightsError: nothing is known of the decoder's person.
    """
    is_own = film is None or film.person == decoder.config.trg_celeb_name
    return read_geometry(decoder) if is_own else film.shape


def open_decoder(decoder: Trained, context: str) -> Backend:
    """Load a decoder alone, for one face at a time.

    Raises:
        WeightsError: its weights are missing, damaged or of another network.
    """
    return open_backend("auto", context, {"decoder": decoder}, 1)


@contextmanager
def results_of(reenactor: Reenactor, frames_in: Input, missing: MissingFaces) -> Iterator[Iterator[Result]]:
    """Yield the results of an input's frames, in order; the next are computed while one is used.

    Args:
        missing: decides what becomes of frames without a face.
    """

    def reenact() -> Iterator[Result | FaceFrame]:
        try:
            yield from reenactor.reenact(frames_in.frames)
        finally:
            close_iterator(frames_in.frames)  # and with them the programs that decode

    with prefetched(reenact(), RESULTS_AHEAD) as items:
        yield (result for result in map(missing.resolve, items) if result is not None)

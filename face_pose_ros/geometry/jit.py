# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`compiled`, the decorator of all that runs as machine code.

numba can keep machine code on disk, but compiles anew only if the file of the function has
changed, not if one that this file imports from has. And it fails where neither the installation
nor the user's cache can be written. So here every source file gets a folder for its machine code,
whose name depends on all sources that its functions are made of, in the first place that can be
written: NUMBA_CACHE_DIR, the installation, the user's cache, the folder for temporary files.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

from face_pose_ros.cache import writable_folder

Function = TypeVar('Function', bound=Callable[..., Any])

_config: Any = numba.config
_PACKAGE = Path(__file__).parent.parent
_INSTALLED = _PACKAGE / '__pycache__' / 'numba'
_IMPORT = re.compile(
    rf'^\s*(?:from|import) ({_PACKAGE.name}[.\w]*)(?: import (\([^)]*\)|.*))?', re.MULTILINE
)


def compiled(function: Function) -> Function:
    """Compile a function when it is called with new types of arguments; it runs without the GIL.

    Division by zero gives infinity or NaN, as in numpy. Sums may be computed in another order.
    """
    return _decorated(function, no_cfunc_wrapper=True)


def inner(function: Function) -> Function:
    """`compiled`, but only compiled code can call it.

    The wrapper that takes Python's objects apart often takes longer to compile than the function.
    """
    return _decorated(function, no_cfunc_wrapper=True, no_cpython_wrapper=True)


def _decorated(function: Function, **options: Any) -> Function:
    folder = _folder(Path(function.__code__.co_filename))
    decorate: Any = numba.njit(
        cache=folder is not None,
        nogil=True,
        error_model='numpy',
        # 'reassoc' lets sums be vectorised; NaN and infinity keep their meaning.
        fastmath={'reassoc', 'contract', 'nsz', 'arcp'},
        **options,
    )
    # numba asks for the place when it decorates. Other packages' functions keep theirs.
    users, _config.CACHE_DIR = _config.CACHE_DIR, str(folder or '')
    try:
        dispatcher = decorate(function)
    finally:
        _config.CACHE_DIR = users
    if folder is not None and hasattr(dispatcher, '_cache'):  # else NUMBA_DISABLE_JIT is set
        dispatcher._cache = _Forgiving(dispatcher._cache, folder)
    return dispatcher


class _Forgiving:
    """A cache of numba that compiles anew what it cannot read, and may fail to write.

    numba itself fails at every start once a loss of power has left half a file.
    """

    def __init__(self, cache: Any, folder: Path) -> None:
        self._cache = cache
        self._folder = folder

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception:  # unpickling half a file may raise anything
            shutil.rmtree(self._folder, ignore_errors=True)
            return None

    def save_overload(self, *arguments: Any) -> None:
        with suppress(OSError):  # a full disk
            self._cache.save_overload(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def can_be_compiled_ahead(path: Path) -> bool:
    """Whether another process can fill the cache of a source file, which is empty as yet."""
    folder = _folder(path)
    return folder is not None and not _config.DISABLE_JIT and not any(folder.rglob('*.nbi'))


@cache
def source_key(path: Path) -> str:
    """Hash of a source file and of all files of this package that it imports, also indirectly."""
    sources: dict[Path, bytes] = {}
    waiting = {path}
    while waiting:
        file = waiting.pop()
        if file not in sources and file.is_file():
            sources[file] = file.read_bytes()
            waiting.update(_imported(sources[file].decode()))
    digest = hashlib.sha256()
    for file in sorted(sources):
        digest.update(hashlib.sha256(sources[file]).digest())
    return digest.hexdigest()[:16]


def _imported(source: str) -> Iterator[Path]:
    """Files of this package that a source imports; some may not exist."""
    for module, names in _IMPORT.findall(source):
        base = _PACKAGE.parent.joinpath(*module.split('.'))
        for path in (base, *(base / name for name in re.findall(r'\w+', names))):
            yield path.with_suffix('.py')
            yield path / '__init__.py'


@cache
def _folder(path: Path) -> Path | None:
    """The folder for the machine code of a source file, or None if it stays in memory."""
    base = _base()
    if base is None or not path.is_file():
        return None
    name = '.'.join(path.with_suffix('').parts[-2:])
    folder = base / f'{name}-{source_key(path)}'
    if base == _INSTALLED and not folder.is_dir():
        # Nobody else uses what older sources of this installation have left.
        for outdated in base.glob(f'{name}-*'):
            shutil.rmtree(outdated, ignore_errors=True)
    return folder


@cache
def _base() -> Path | None:
    users = [Path(_config.CACHE_DIR)] if _config.CACHE_DIR else []
    base = writable_folder('numba', *users, _INSTALLED)
    if base is None:
        logging.getLogger(__name__).warning(
            'No folder to keep compiled code in, so that every start compiles it again, which '
            'takes tens of seconds: set NUMBA_CACHE_DIR to a folder that this user can write to '
            f'(neither {_INSTALLED} nor a cache or temporary folder of its own can be used)'
        )
    return base

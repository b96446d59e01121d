# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Heads of ICT-FaceKit (light): 100 identity modes and 57 expressions of one mesh, in metres.

The data set comes from github.com/ICT-VGL/ICT-FaceKit (MIT). Its light model is a mean head, PCA
modes of light-stage scans and expression offsets, described in Li et al. 2020, "Learning Formation
of Physically-Based Face Attributes". We read them from one .npz, whose arrays ARRAYS lists.
"""

from __future__ import annotations

import enum
import math
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

SOURCE = 'github.com/ICT-VGL/ICT-FaceKit'
VERTICES, POLYGONS, IDENTITY_MODES, EXPRESSIONS = 26719, 26384, 100, 57

# Midline vertex at the deepest point of the nasal root, the origin of the head frame.
SELLION = 1358

# The head's axes are ICT's, pitched forward by this angle, so that the mean head stands as the
# canonical face of Face Mesh does. lab/tools/fit_face_model.py measures it.
PITCH = math.radians(2.24)

# The first vertices are the front of the face: forehead to chin, without ears and neck.
FACE_VERTICES = 6706

# name -> shape in the .npz; None is any length
ARRAYS: dict[str, tuple[int | None, ...]] = {
    'neutral_cm': (VERTICES, 3),
    'identity_modes_cm': (IDENTITY_MODES, VERTICES, 3),  # offset for one standard deviation
    'expression_deltas_cm': (EXPRESSIONS, VERTICES, 3),  # offset of the full expression
    'expression_names': (EXPRESSIONS,),
    'quads': (POLYGONS, 4),  # triangles repeat their last vertex
    'quads_uv': (POLYGONS, 4),
    'uv': (None, 2),
    'landmark68_vertices': (68,),
}


class Part(enum.IntEnum):
    """Part of the body that a triangle belongs to."""

    FACE = 0
    HEAD_NECK = 1
    MOUTH_SOCKET = 2
    EYE_SOCKET = 3
    GUMS_TONGUE = 4
    TEETH = 5
    EYEBALL = 6  # outer shell: sclera and cornea
    IRIS = 7  # inner shell, behind the cornea: hidden where EYEBALL is drawn opaque
    LACRIMAL = 8  # thin helper layers from here on
    EYE_BLEND = 9
    EYE_OCCLUSION = 10
    LASHES = 11


# First polygon of each part and of its repetition on the other side, as ICT-FaceKit's README has
# them (its "Eyeball" is EYEBALL and IRIS here).
_FIRST_POLYGON = {
    0: Part.FACE,
    9230: Part.HEAD_NECK,
    11144: Part.MOUTH_SOCKET,
    13226: Part.EYE_SOCKET,
    14034: Part.GUMS_TONGUE,
    17006: Part.TEETH,
    21496: Part.EYEBALL,
    22296: Part.IRIS,
    23094: Part.EYEBALL,
    23894: Part.IRIS,
    24692: Part.LACRIMAL,
    25018: Part.EYE_BLEND,
    25048: Part.EYE_OCCLUSION,
    25304: Part.LASHES,
}
# Outer shells of the eyeballs, (first, end) vertex.
EYEBALL_LEFT, EYEBALL_RIGHT = (21451, 22221), (23021, 23791)


class IctFaceKitError(RuntimeError):
    """The data set is missing or is not the expected one."""


class IctFaceKit:
    """The morphable head, in the head frame of REP-155.

    x out of the face, y to the person's left, z up, metres. The origin is the sellion of the
    neutral head of the same identity, and its axes are those of the mean head when that one's face
    is laid onto this one's (Procrustes). An expression moves the skin, not the frame.

    Attributes:
        triangles: (F, 3) int64 vertex indices, counter-clockwise seen from outside.
        triangle_part: (F,) int64, values of Part.
        triangle_uv: (F, 3) int64 indices into uv.
        uv: (U, 2) float32 texture coordinates. The integer part of u tells the part of the head,
            its fraction and v run over [0, 1], v upwards.
        landmark68_vertices: (68,) int64, vertices of the Multi-PIE landmarks.
        expression_names: names of the 57 expressions, in the order of their coefficients.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the data set.

        Args:
            path: the .npz with ARRAYS.

        Raises:
            IctFaceKitError: there is no such file, or its arrays are not those of ICT-FaceKit.
        """
        arrays = _read(Path(path))
        self.expression_names: tuple[str, ...] = tuple(map(str, arrays['expression_names']))
        self.landmark68_vertices = arrays['landmark68_vertices'].astype(np.int64)
        self.uv = arrays['uv'].astype(np.float32)
        self._split_quads(arrays['quads'].astype(np.int64), arrays['quads_uv'].astype(np.int64))

        xyz = np.concatenate(
            [
                arrays['neutral_cm'][None],
                arrays['identity_modes_cm'],
                arrays['expression_deltas_cm'],
            ]
        ).astype(np.float32)
        xyz = xyz @ (0.01 * _axes_from_ict().T).astype(np.float32)  # cm -> m
        xyz[: 1 + IDENTITY_MODES] -= xyz[: 1 + IDENTITY_MODES, SELLION, None]
        identities = xyz[1 : 1 + IDENTITY_MODES]
        turn = similarity_motion(identities[:, :FACE_VERTICES], xyz[0, :FACE_VERTICES])[:, 3:6]
        identities -= np.cross(turn[:, None].astype(np.float32), xyz[0])
        self.neutral: NDArray[np.float32] = xyz[0]  # (V, 3) m, the mean head
        self.modes: NDArray[np.float32] = xyz[1:]  # (100 + 57, V, 3) m, identities, expressions

    def vertices(
        self, identity: NDArray[np.floating], expression: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Heads of given identities and expressions.

        Args:
            identity: (M, 100) coefficients, standard normal over people.
            expression: (M, 57) coefficients, 0 neutral to 1 full.

        Returns:
            (M, V, 3) float32, m, in each identity's head frame.
        """
        coefficients = np.concatenate([identity, expression], 1).astype(np.float32)
        offsets = coefficients @ self.modes.reshape(len(self.modes), -1)
        return self.neutral + offsets.reshape(-1, VERTICES, 3)

    def _split_quads(self, quads: NDArray[np.int64], quads_uv: NDArray[np.int64]) -> None:
        halves = np.array([[0, 1, 2], [0, 2, 3]])
        triangles = quads[:, halves].reshape(-1, 3)
        real = triangles[:, 1] != triangles[:, 2]  # the second half of a triangle is empty
        firsts = list(_FIRST_POLYGON)
        counts = np.diff([*firsts, POLYGONS])
        part = np.repeat(np.array(list(_FIRST_POLYGON.values()), np.int64), 2 * counts)
        self.triangles = triangles[real]
        self.triangle_uv = quads_uv[:, halves].reshape(-1, 3)[real]
        self.triangle_part = part[real]


def eye_centres(vertices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centres of the eyeballs: least-squares spheres through their outer shells.

    Args:
        vertices: (M, V, 3) heads, m.

    Returns:
        (M, 2, 3) left and right centre, m.
    """
    centres = []
    for first, end in (EYEBALL_LEFT, EYEBALL_RIGHT):
        shell = vertices[:, first:end].astype(np.float64)
        # |p|^2 = 2 c.p + (r^2 - |c|^2), linear in c and the bracket
        A = np.concatenate([2 * shell, np.ones_like(shell[..., :1])], -1)
        b = (shell**2).sum(-1, keepdims=True)
        At = A.swapaxes(1, 2)
        centres.append(np.linalg.solve(At @ A, At @ b)[:, :3, 0])
    return np.stack(centres, 1)


def similarity_motion(
    offsets: NDArray[np.floating], mean: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The motion of a whole shape that comes nearest to its deformations, to first order.

    Args:
        offsets: (J, P, 3) of the points.
        mean: (P, 3) the points.

    Returns:
        (J, 7) translation, rotation vector about the origin [rad], relative growth.
    """
    motions = [np.broadcast_to(e, mean.shape) for e in np.eye(3)]
    motions += [np.cross(e, mean) for e in np.eye(3)]
    A = np.stack([*motions, mean]).reshape(7, -1).astype(np.float64)
    b = offsets.reshape(len(offsets), -1).astype(np.float64)
    return np.asarray(np.linalg.solve(A @ A.T, A @ b.T).T)


def _axes_from_ict() -> NDArray[np.float64]:
    """(3, 3) R_head_ict. ICT's axes: x to the person's left, y up, z out of the face."""
    c, s = math.cos(PITCH), math.sin(PITCH)
    pitch_forward = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])  # about y: the nose goes down
    return pitch_forward @ np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])


def _read(path: Path) -> dict[str, NDArray]:
    origin = f'It holds the light model of {SOURCE} as arrays {", ".join(ARRAYS)}.'
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise IctFaceKitError(f'{path}: no such file. {origin}') from error
    except (OSError, ValueError, BadZipFile, AttributeError) as error:
        raise IctFaceKitError(f'{path}: not a readable .npz ({error}). {origin}') from error
    for name, shape in ARRAYS.items():
        if name not in arrays:
            raise IctFaceKitError(f'{path}: array {name} is missing. {origin}')
        found = arrays[name].shape
        if len(found) != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, found, strict=True)
        ):
            raise IctFaceKitError(f'{path}: {name} has shape {found}, expected {shape}. {origin}')
    return arrays

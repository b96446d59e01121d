# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws people with OpenGL: the picture, and depths that tell what is hidden.

Needs EGL: a GPU's driver, or Mesa's llvmpipe (Debian: libegl1, libgl1-mesa-dri).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import moderngl
import numpy as np
from numpy.typing import NDArray

from face_pose_lab.training.heads import shaders
from face_pose_lab.training.heads.mesh import Floats, Layer, Material, Part, Person
from face_pose_lab.training.heads.staging import Lens, Light, Pose

SHADOW_PX = 256
_SHADOW_REACH_M = 0.28  # half the side of what a lamp's shadow map sees
_OVERSAMPLING = 1.5  # per axis; cheaper on llvmpipe than multisampling
_EMPTY_Z = 1e6  # m: nothing there
_DEPTH_RANGE_M = (0.05, 30.0)


class _Buffers:
    """A part's buffers on the GPU."""

    def __init__(
        self, ctx: moderngl.Context, part: Part, programs: list[moderngl.Program]
    ) -> None:
        mesh = part.mesh
        data = np.concatenate([mesh.xyz, mesh.normals, mesh.uv, mesh.shares], 1, dtype=np.float32)
        self.part = part
        self._vertices = ctx.buffer(np.ascontiguousarray(data))
        self._index = ctx.buffer(np.ascontiguousarray(mesh.triangles, dtype=np.int32))
        layout = [(self._vertices, '3f 3f 2f 3f', 'position', 'normal', 'uv', 'shares')]
        self.arrays = [
            ctx.vertex_array(program, layout, self._index, skip_errors=True)
            for program in programs
        ]

    def release(self) -> None:
        for array in self.arrays:
            array.release()
        self._vertices.release()
        self._index.release()


class Loaded:
    """A person whose meshes are on the GPU."""

    def __init__(self, person: Person, parts: list[_Buffers]) -> None:
        self.person = person
        self.parts = parts


class Renderer:
    """One OpenGL context with its textures."""

    def __init__(self) -> None:
        """Open a context.

        Raises:
            RuntimeError: There is no EGL, or no driver for it.
        """
        egl: Any = {'standalone': True, 'backend': 'egl'}  # moderngl's types ask for dictionaries
        try:
            self._ctx = moderngl.create_context(**egl)
        except Exception as error:
            raise RuntimeError(
                f'no OpenGL context on EGL ({error}); on Debian and Ubuntu install libegl1 and '
                'libgl1-mesa-dri'
            ) from error
        ctx = self._ctx
        self._shade = ctx.program(shaders.VERTEX, shaders.FRAGMENT)
        self._cast = ctx.program(shaders.SHADOW_VERTEX, shaders.DEPTH_FRAGMENT)
        self._measure = ctx.program(shaders.DEPTH_VERTEX, shaders.DEPTH_FRAGMENT)
        self._behind = ctx.program(shaders.BACKGROUND_VERTEX, shaders.BACKGROUND_FRAGMENT)
        corners = ctx.buffer(np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32))
        self._quad = ctx.vertex_array(self._behind, [(corners, '2f', 'corner')])
        self._shadow = ctx.depth_texture((SHADOW_PX, SHADOW_PX))
        self._shadow.compare_func = '<='
        self._shadow.repeat_x = self._shadow.repeat_y = False
        self._shadow_target = ctx.framebuffer(depth_attachment=self._shadow)
        self._targets: dict[tuple[int, int, bool], moderngl.Framebuffer] = {}
        self._textures: dict[str, moderngl.Texture] = {}
        self.add_texture('white', np.full((2, 2, 4), 255, np.uint8))
        ctx.enable(moderngl.DEPTH_TEST)
        ctx.front_face = 'cw'

    @property
    def device(self) -> str:
        """Name of what draws."""
        return str(self._ctx.info['GL_RENDERER'])

    def add_texture(self, name: str, picture: NDArray, repeat: bool = True) -> None:
        """Make a picture known under a name, in place of the one that had it.

        Args:
            name: What materials and lights call it.
            picture: (H, W, 3 or 4) uint8 sRGB or float32 linear; row 0 is at v = 0.
            repeat: Whether it goes on beyond [0, 1].
        """
        if name in self._textures:
            self._textures[name].release()
        height, width, channels = picture.shape
        data = picture.astype(np.float16) if picture.dtype == np.float32 else picture
        texture = self._ctx.texture(
            (width, height),
            channels,
            np.ascontiguousarray(data),
            alignment=1,
            dtype='f2' if picture.dtype == np.float32 else 'f1',
        )
        texture.build_mipmaps()
        texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        texture.repeat_x, texture.repeat_y = repeat, repeat
        self._textures[name] = texture

    @contextlib.contextmanager
    def load(self, person: Person) -> Iterator[Loaded]:
        """A person's meshes on the GPU, for as long as the context lasts."""
        programs = [self._shade, self._cast, self._measure]
        parts = [_Buffers(self._ctx, part, programs) for part in person.parts]
        try:
            yield Loaded(person, parts)
        finally:
            for part in parts:
                part.release()

    def picture(
        self, people: Iterable[tuple[Loaded, Pose]], lens: Lens, light: Light
    ) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 sRGB of people in front of the background."""
        drawn = self._target(lens, _OVERSAMPLING)
        drawn.use()
        drawn.clear(0, 0, 0, 1)
        self._draw_background(lens, light)
        for loaded, pose in people:
            T_light_cam = _shadow_camera(light.lamp, pose.T_cam_head)
            if light.shadows:
                self._shadow_target.use()
                self._shadow_target.clear(depth=1.0)
                self._set_pose(self._cast, loaded.person, pose)
                _set(self._cast, T_light_cam=T_light_cam.T)
                self._draw(loaded, 1, {Layer.BODY, Layer.COVER, Layer.OBJECT})
                drawn.use()
            self._set_pose(self._shade, loaded.person, pose)
            self._set_light(light, T_light_cam)
            _set_lens(self._shade, lens)
            self._draw(loaded, 0, shaded=True)
        data = drawn.read(components=3, alignment=1)
        fine = np.frombuffer(data, np.uint8).reshape(drawn.height, drawn.width, 3)
        return np.asarray(
            cv2.resize(fine, (lens.width, lens.height), interpolation=cv2.INTER_AREA), np.uint8
        )

    def depth(self, loaded: Loaded, pose: Pose, lens: Lens, layers: set[Layer]) -> Floats:
        """(height, width) depth z [m] of a person's parts in some layers; huge where none is."""
        target = self._target(lens, None)
        target.use()
        target.clear(_EMPTY_Z, 0, 0, 0)
        self._set_pose(self._measure, loaded.person, pose)
        _set_lens(self._measure, lens)
        self._draw(loaded, 2, layers=layers)
        data = target.read(components=1, dtype='f4', alignment=1)
        return np.frombuffer(data, np.float32).reshape(lens.height, lens.width)

    def _target(self, lens: Lens, oversampling: float | None) -> moderngl.Framebuffer:
        """Framebuffer of pictures or, without oversampling, of depths."""
        factor = oversampling or 1.0
        size = round(factor * lens.width), round(factor * lens.height)
        key = (*size, oversampling is None)
        if key not in self._targets:
            colour = (
                self._ctx.renderbuffer(size, 1, dtype='f4')
                if oversampling is None
                else self._ctx.renderbuffer(size, 4)
            )
            self._targets[key] = self._ctx.framebuffer(
                [colour], self._ctx.depth_renderbuffer(size)
            )
        return self._targets[key]

    def _draw(
        self, loaded: Loaded, which: int, layers: set[Layer] | None = None, shaded: bool = False
    ) -> None:
        for buffers in loaded.parts:
            if layers is not None and buffers.part.layer not in layers:
                continue
            self._textures[buffers.part.material.texture].use(0)
            if shaded:
                self._set_material(buffers.part.material)
            # What is closed needs no back: half of the triangles are left out.
            if which != 1 and not buffers.part.material.two_sided:
                self._ctx.enable(moderngl.CULL_FACE)
            buffers.arrays[which].render()
            self._ctx.disable(moderngl.CULL_FACE)

    def _draw_background(self, lens: Lens, light: Light) -> None:
        self._textures[light.environment].use(0)
        _set(
            self._behind,
            intrinsics=_intrinsics(lens),
            size=(lens.width, lens.height),
            R_env_cam=light.R_env_cam.T,
            lod=light.blur,
            exposure=light.background_exposure,
            flat_picture=float(light.is_flat),
        )
        self._ctx.disable(moderngl.DEPTH_TEST)
        self._quad.render(moderngl.TRIANGLE_STRIP)
        self._ctx.enable(moderngl.DEPTH_TEST)

    def _set_pose(self, program: moderngl.Program, person: Person, pose: Pose) -> None:
        angle = float(np.linalg.norm(pose.torso))
        axis = pose.torso / angle if angle > 0 else (1.0, 0.0, 0.0)
        _set(
            program,
            T_cam_head=pose.T_cam_head.T,
            neck=person.neck,
            neck_axis=axis,
            neck_angle=angle,
        )

    def _set_light(self, light: Light, T_light_cam: NDArray[np.float64]) -> None:
        self._shadow.use(1)
        _set(
            self._shade,
            shadow=1,
            harmonics=light.harmonics,
            R_env_cam=light.R_env_cam.T,
            lamp=light.lamp,
            lamp_colour=light.lamp_colour,
            shadowed=float(light.shadows),
            lamp_on=float(light.lamp_colour.max() > 0),
            exposure=light.exposure,
            T_light_cam=T_light_cam.T,
        )

    def _set_material(self, material: Material) -> None:
        _set(
            self._shade,
            tint=material.tint,
            saturation=material.saturation,
            darker=material.darker,
            gloss=material.gloss,
            shininess=material.shininess,
            two_sided=float(material.two_sided),
            grain=material.grain,
            beard=material.beard,
            scalp=material.scalp,
            hair=material.hair,
        )


def _shadow_camera(lamp: NDArray[np.float64], T_cam_head: NDArray[np.float64]) -> NDArray:
    """Orthographic camera (4, 4) that sees the head as the lamp does, into [-1, 1]."""
    up = np.array([0.0, 1.0, 0.0]) if abs(lamp[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    x = np.cross(up, lamp)
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.stack([x, np.cross(lamp, x), -lamp]) / _SHADOW_REACH_M
    T[2] *= 0.5
    middle = T_cam_head[:3, :3] @ (-0.08, 0, -0.03) + T_cam_head[:3, 3]
    T[:3, 3] = -T[:3, :3] @ middle
    return T


def _intrinsics(lens: Lens) -> tuple[float, float, float, float]:
    return lens.K[0, 0], lens.K[1, 1], lens.K[0, 2], lens.K[1, 2]


def _set_lens(program: moderngl.Program, lens: Lens) -> None:
    _set(
        program,
        intrinsics=_intrinsics(lens),
        size=(lens.width, lens.height),
        dist=lens.dist,
        range_sq=lens.range_max**2,
        depth_range=_DEPTH_RANGE_M,
    )


def _set(program: Any, **uniforms: Any) -> None:
    """Write uniforms; those that the compiler dropped are skipped."""
    for name, value in uniforms.items():
        uniform = program.get(name, None)
        if uniform is None:
            continue
        if isinstance(value, int):
            uniform.value = value
        else:
            uniform.write(np.ascontiguousarray(value, np.float32).tobytes())

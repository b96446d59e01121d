# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Installs face_pose_ros as an ament_python package, and compiles its C++ part, `src/`."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from glob import glob
from pathlib import Path
from xml.etree import ElementTree

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

NAME = 'face_pose_ros'
SHARE = f'share/{NAME}'
# It alone says who and where.
PACKAGE = ElementTree.parse(Path(__file__).with_name('package.xml')).getroot()
# colcon build --symlink-install runs a link to this file, in another folder.
ROOT = Path(__file__).resolve().parent
SOURCES = Path('src') if Path.cwd() == ROOT else ROOT / 'src'


def text(path: str) -> str:
    """Text of an element of package.xml, on one line."""
    return ' '.join(PACKAGE.findtext(path, '').split())


HEADERS = {
    'Python.h': 'on Debian and Ubuntu: sudo apt install python3-dev',
    'pybind11/pybind11.h': 'pip install pybind11; on Debian and Ubuntu: sudo apt install '
    'pybind11-dev',
}
# What `module.cpp` includes.
IN_MODULE = ('boxes', 'geometry', 'heads', 'keypoints', 'pictures', 'surface')
UNITS = sorted(path for path in SOURCES.glob('*.cpp') if path.stem not in IN_MODULE)
# Bindings take longest: they come first, so that all cores are busy to the end.
UNITS.sort(key=lambda path: 'module' not in path.stem)
# Crops are the same bits from build to build, and so are the networks' answers.
OWN_OPTIONS = {'crops.cpp': ['-fno-associative-math']}
CORE = Extension(
    f'{NAME}._core',
    list(map(str, UNITS)),
    depends=['setup.py', *sorted(map(str, SOURCES.glob('*.?pp')))],
    language='c++',
    extra_compile_args=[
        *('-std=c++17', '-O3', '-g0', '-fvisibility=hidden', '-Wall', '-Wextra', '-MD'),
        # Lets sums be vectorised; NaN and infinity keep their meaning.
        *('-fno-math-errno', '-fno-trapping-math', '-fno-signed-zeros', '-fassociative-math'),
    ],
)


class BuildCore(build_ext):
    """Compiles in parallel what has changed, and says what is missing."""

    def build_extensions(self) -> None:
        """Build `face_pose_ros._core`."""
        with suppress(ImportError):  # else its headers are among the compiler's own
            import pybind11

            self.compiler.include_dirs.insert(0, pybind11.get_include())
        self.check()
        compile_serially = self.compiler.compile

        def compile_all(
            sources: list[str], *args: object, extra_postargs: list[str], **kwargs: object
        ) -> list[str]:
            def one(source: str) -> list[str]:
                objects = self.compiler.object_filenames([source], output_dir=self.build_temp)
                if all(map(is_current, objects)):
                    return objects
                options = [*extra_postargs, *OWN_OPTIONS.get(Path(source).name, [])]
                return compile_serially([source], *args, extra_postargs=options, **kwargs)

            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                return [path for paths in pool.map(one, sources) for path in paths]

        self.compiler.compile = compile_all
        super().build_extensions()

    def check(self) -> None:
        """End with one line if there is no compiler or a header is missing."""
        compiler = self.compiler.compiler_so[0]
        folders = [f'-I{folder}' for folder in self.compiler.include_dirs]
        for header, remedy in {'cstddef': '', **HEADERS}.items():
            source = f'#if !__has_include(<{header}>)\n#error missing\n#endif\n'
            command = [compiler, *folders, '-E', '-x', 'c++', '-']
            try:
                run = subprocess.run(command, input=source, text=True, capture_output=True)
            except FileNotFoundError:
                run = None
            if run is None or (run.returncode and header == 'cstddef'):
                raise SystemExit(
                    f'{NAME} is partly C++, and {compiler} cannot compile it; '
                    'on Debian and Ubuntu: sudo apt install g++'
                )
            if run.returncode:
                raise SystemExit(f'{NAME} needs {header} to be built: {remedy}')


def is_current(compiled: str) -> bool:
    """Whether an object file is younger than all that it was made from."""
    rule = Path(compiled).with_suffix('.d')  # what -MD writes
    if not (rule.is_file() and os.path.isfile(compiled)):  # a failed compilation leaves the rule
        return False
    inputs = [__file__, *rule.read_text().replace('\\\n', ' ').split()[1:]]
    made = os.path.getmtime(compiled)
    return all(os.path.exists(path) and os.path.getmtime(path) <= made for path in inputs)


setup(
    name=NAME,
    version=text('version'),
    ext_modules=[CORE],
    cmdclass={'build_ext': BuildCore},
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={
        NAME: ['py.typed', '*.pyi'],
        f'{NAME}.samples': ['*.jpg'],
        f'{NAME}.weights': ['*.safetensors', '*.xml', '*.md'],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (SHARE, ['package.xml', 'LICENSE', 'NOTICE']),
        (f'{SHARE}/launch', glob('launch/*.py')),
        (f'{SHARE}/config', glob('config/*.*')),
    ],
    install_requires=['setuptools'],
    extras_require={'test': ['pytest']},  # tells colcon to run the tests with pytest
    zip_safe=False,
    author=text('author'),
    author_email=PACKAGE.find('author').get('email'),
    maintainer=text('maintainer'),
    maintainer_email=PACKAGE.find('maintainer').get('email'),
    url=text('url'),
    description=text('description'),
    license='Apache-2.0 AND MIT',
    entry_points={
        'console_scripts': [
            f'pose_node = {NAME}.ros.programs:pose_node',
            f'multi_camera = {NAME}.ros.programs:multi_camera',
            f'face_pose_bag = {NAME}.ros.bag.main:main',
            f'demo_camera = {NAME}.ros.programs:demo_camera',
            f'look_at = {NAME}.ros.programs:look_at',
            f'who_looks = {NAME}.ros.programs:who_looks',
            f'demo_checker = {NAME}.ros.programs:demo_checker',
            f'demo_recorder = {NAME}.ros.programs:demo_recorder',
            f'face_pose_view = {NAME}.ros.programs:face_pose_view',
        ],
    },
)

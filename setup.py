# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Installs face_pose_ros as an ament_python package."""

from glob import glob
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = 'face_pose_ros'
SHARE = f'share/{NAME}'
# It alone says who and where.
PACKAGE = ElementTree.parse(Path(__file__).with_name('package.xml')).getroot()


def text(path: str) -> str:
    """Text of an element of package.xml, on one line."""
    return ' '.join(PACKAGE.findtext(path, '').split())


setup(
    name=NAME,
    version=text('version'),
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={
        NAME: ['py.typed'],
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

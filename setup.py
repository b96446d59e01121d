"""Installs face_pose_ros as an ament_python package."""

from glob import glob

from setuptools import find_packages, setup

NAME = 'face_pose_ros'
SHARE = f'share/{NAME}'

setup(
    name=NAME,
    version='0.1.0',
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
    maintainer='face_pose_ros maintainers',
    maintainer_email='maintainers@face-pose-ros.invalid',
    description='Metric 6-DoF poses of human heads from a calibrated camera',
    license='Apache-2.0',
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

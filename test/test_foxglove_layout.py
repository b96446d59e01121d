# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""config/face_pose.foxglove.json: panels that Foxglove has, topics that the node publishes."""

import json
from collections.abc import Iterator
from pathlib import Path

from face_pose_ros.ros.drawing.markers import NAMESPACES

ROOT = Path(__file__).resolve().parent.parent
LAYOUT = json.loads((ROOT / 'config' / 'face_pose.foxglove.json').read_text())
PANELS = LAYOUT['configById']
SCENE, OVERLAY = PANELS['3D!faces'], PANELS['Image!overlay']
API = (ROOT / 'docs' / 'ros_api.md').read_text()


def leaves(tree: str | dict) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
        return
    assert tree['direction'] in ('row', 'column')
    assert 0 < tree['splitPercentage'] < 100
    yield from leaves(tree['first'])
    yield from leaves(tree['second'])


def test_every_panel_is_laid_out_once():
    assert sorted(leaves(LAYOUT['layout'])) == sorted(PANELS)
    kinds = {name.split('!')[0] for name in PANELS}
    assert kinds == {'3D', 'Image', 'DiagnosticSummary', 'Plot'}


def test_it_shows_what_the_node_publishes():
    topics = [*SCENE['topics'], OVERLAY['imageMode']['imageTopic']]
    topics += [path['value'].split('.')[0] for path in PANELS['Plot!distance']['paths']]
    topics.append(PANELS['DiagnosticSummary!face_pose']['topicToRender'])
    for topic in topics:
        assert f'`{topic.replace("/face_pose/", "~/").removeprefix("/")}`' in API.replace(
            '`/', '`'
        )


def test_all_markers_are_visible():
    shown = SCENE['topics']['/face_pose/markers']
    assert shown['visible']
    assert {n for n, s in shown['namespaces'].items() if s['visible']} == set(NAMESPACES)


def test_the_overlay_needs_no_calibration():
    """Foxglove refuses CameraInfo of the model equidistant: the overlay is an image as it is."""
    assert 'calibrationTopic' not in OVERLAY['imageMode']

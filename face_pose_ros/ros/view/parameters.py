# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of `face_pose_view`; no import of the rerun SDK."""

from __future__ import annotations

from dataclasses import dataclass

from face_pose_ros.options import Checked, start_option


@dataclass(frozen=True)
class ViewParameters(Checked):
    """Parameters of `face_pose_view`."""

    output: str = start_option('face_pose.rrd', 'file to write; its folder is created')
    spawn: bool = start_option(False, 'open the viewer too')
    image_transport: str = start_option(
        'raw', 'as for the pose node', choices=('raw', 'compressed')
    )
    image_is_rectified: bool = start_option(False, 'as for the pose node')

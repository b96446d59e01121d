# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sphinx's settings for rosdoc2; project, version and authors come from package.xml."""

import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

# Optional packages: modules that use them are documented where they are not installed, too.
for name in ('hri_msgs', 'hri_msgs.msg', 'rerun', 'rerun.blueprint'):
    sys.modules.setdefault(name, MagicMock(__spec__=ModuleSpec(name, None)))

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
source_suffix = {'.md': 'markdown', '.rst': 'restructuredtext'}
myst_heading_anchors = 4  # links to headings, as GitHub makes them
myst_enable_extensions = ['fieldlist']
suppress_warnings = [
    'image.not_readable',  # rosdoc2 copies README without its picture, which index.rst has
    'myst.xref_missing',  # links to files outside this folder, for GitHub
    'ref.python',  # names that a package offers of its modules
]
exclude_patterns = ['conf.py']

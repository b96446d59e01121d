# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sphinx's settings for rosdoc2; project, version and authors come from package.xml."""

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
source_suffix = {'.md': 'markdown', '.rst': 'restructuredtext'}
myst_heading_anchors = 4  # links to headings, as GitHub makes them
myst_enable_extensions = ['fieldlist']
# Links from documents to code are written for GitHub; Sphinx resolves only this folder.
suppress_warnings = ['myst.xref_missing']
exclude_patterns = ['conf.py']

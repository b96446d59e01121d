# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Finds out from the ROS graph why no messages arrive on a topic."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from face_pose_ros.ros.conversions import type_name

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
# Ends of the topics of image_transport's plugins -> launch arguments whose images have them.
_SUFFIXES = {'/compressedDepth': ('depth',), '/compressed': ('image', 'depth')}
_SHOWN = 3  # number of similar topics to list
_PATIENCE_S = 3.0  # discovery takes up to this time
_START_S = 15.0  # from the discovery of a publisher to its first message: drivers start slowly


class SilenceWatch:
    """Reports why topics have no messages, each reason once."""

    def __init__(
        self,
        node: Node,
        topics: Mapping[str, tuple[type, str]],
        on_silence: Callable[[str, float, str], None],
    ) -> None:
        """Start to wait for messages.

        Args:
            node: Subscribes to the topics.
            topics: Resolved topic -> message type, and the launch argument that sets the topic.
            on_silence: Called with topic, time without messages [s] and reason.
        """
        self._node = node
        self._topics = {
            topic: (type_name(kind), argument) for topic, (kind, argument) in topics.items()
        }
        self._on_silence = on_silence
        self._begin_s = time.monotonic()
        self._missing_s = dict.fromkeys(self._topics, self._begin_s)  # last without publisher
        self._reported: dict[str, str] = {}

    def received(self, topic: str) -> None:
        """Stop watching a topic that has a message."""
        self._topics.pop(topic, None)

    def check(self) -> None:
        """Check the graph; to be called regularly on the node's executor."""
        now_s = time.monotonic()
        waited_s = now_s - self._begin_s
        if waited_s < _PATIENCE_S:
            return
        for topic, (kind, argument) in list(self._topics.items()):
            reason, is_published = why_silent(self._node, topic, kind, argument)
            if not is_published:
                self._missing_s[topic] = now_s
            elif now_s - self._missing_s[topic] < _START_S:
                continue
            if self._reported.get(topic) != reason:
                self._reported[topic] = reason
                self._on_silence(topic, waited_s, reason)


def why_silent(node: Node, topic: str, kind: str, argument: str) -> tuple[str, bool]:
    """The reason in one line, with what to change; whether a publisher fits the node.

    Args:
        node: Subscribes to the topic.
        topic: Resolved name.
        kind: Type that the node expects there, such as 'sensor_msgs/msg/Image'.
        argument: Launch argument that sets the topic: image, depth, camera_info, ...
    """
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return _no_publisher(node, topic, kind, argument), False
    fitting = [publisher for publisher in publishers if publisher.topic_type == kind]
    if not fitting:
        found = publishers[0].topic_type
        text = f'{topic} is a {_short(found)}, expected {_short(kind)}'
        hint = _transport_hint(topic, found, argument)
        return f'{text}: {hint}' if hint else text, False
    own = [
        subscription
        for subscription in node.get_subscriptions_info_by_topic(topic)
        if (subscription.node_name, subscription.node_namespace)
        == (node.get_name(), node.get_namespace())
    ]
    misfits = [_misfit(publisher, own[0]) for publisher in fitting] if own else ['']
    if all(misfits):
        text = (
            f"{_name(fitting[0])} publishes {topic} with a QoS that does not fit this node's: "
            f'{misfits[0]}; change it by qos_overrides.{topic}.subscription. and the policy'
        )
        return text, False
    text = (
        f'{_name(fitting[0])} publishes {topic}, but no message has arrived: it may not have '
        'started yet, or large images are lost, see docs/troubleshooting.md'
    )
    return text, True


def _no_publisher(node: Node, topic: str, kind: str, argument: str) -> str:
    """The reason if the topic has no publisher, with similar topics."""
    kinds = (IMAGE, COMPRESSED) if kind in (IMAGE, COMPRESSED) else (kind,)
    others = {
        name: types[0]
        for name, types in node.get_topic_names_and_types()
        if types[0] in kinds and name != topic and _others_publish(node, name)
    }
    text = f'no node publishes {topic}'
    # The same image with another transport.
    base = _without_suffix(topic)
    compressed = [name + suffix for suffix in _SUFFIXES for name in (topic, base)]
    for name in (*compressed, base, _without_suffix(base)):
        if name in others and (hint := _transport_hint(name, others[name], argument)):
            return f'{text}; {name} is a {_short(others[name])}: {hint}'
    alike = [name for name, found in others.items() if found == kind and _is_for(name, argument)]
    if not alike:
        return f'{text}, nor any other {_short(kind)}'
    nearest = difflib.get_close_matches(topic, alike, n=_SHOWN, cutoff=0)
    more = f' and {len(alike) - len(nearest)} more' if len(alike) > len(nearest) else ''
    hint = f'{argument}:={nearest[0]}'
    if kind == COMPRESSED:
        hint = _transport_hint(nearest[0], kind, argument)
    return f'{text}; {_short(kind)} is published on {", ".join(nearest)}{more}: {hint}'


def _is_for(name: str, argument: str) -> bool:
    """Whether images on the topic, by the end of its name, can be those of the argument."""
    return all(argument in known for suffix, known in _SUFFIXES.items() if name.endswith(suffix))


def _others_publish(node: Node, topic: str) -> bool:
    """Whether another node publishes the topic; the node's own images are excluded."""
    own = node.get_name(), node.get_namespace()
    publishers = node.get_publishers_info_by_topic(topic)
    return any((p.node_name, p.node_namespace) != own for p in publishers)


def _transport_hint(name: str, found: str, argument: str) -> str:
    """What to set to subscribe to this topic of this type; '' if nothing does."""
    for suffix, arguments in _SUFFIXES.items():
        if argument in arguments and found == COMPRESSED and name.endswith(suffix):
            base = name.removesuffix(suffix)
            return f'{argument}:={base} {argument}_transport:={suffix[1:]}'
    if argument not in ('image', 'depth') or not _is_for(name, argument):
        return ''
    if found == IMAGE:
        return f'{argument}:={name} {argument}_transport:=raw'
    if found == COMPRESSED:
        remapping = f'{argument}/compressed:={name}'
        return f'{argument}_transport compressed, with the remapping {remapping}'
    return ''


def _without_suffix(topic: str) -> str:
    for suffix in _SUFFIXES:
        topic = topic.removesuffix(suffix)
    return topic


def _misfit(publisher: TopicEndpointInfo, subscription: TopicEndpointInfo) -> str:
    """Why the QoS of both are incompatible; '' if they are compatible."""
    compatibility, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
    return (
        reason.removeprefix('ERROR: ').strip(' ;')
        if compatibility == QoSCompatibility.ERROR
        else ''
    )


def _name(endpoint: TopicEndpointInfo) -> str:
    if 'UNKNOWN' in endpoint.node_name:  # not fully discovered yet
        return 'a node'
    return f'{endpoint.node_namespace.rstrip("/")}/{endpoint.node_name}'


def _short(kind: str) -> str:
    return kind.rsplit('/', 1)[-1]

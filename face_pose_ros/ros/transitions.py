# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the transitions of a managed node in their own threads."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future


def answer_during_transitions(node: LifecycleNode) -> set[threading.Thread]:
    """Run transitions of the service change_state without blocking the executor.

    rclpy runs a transition within the service callback, which blocks all other services and timers
    of the node.

    Returns:
        The threads of the transitions that are running.
    """
    running: set[threading.Thread] = set()
    (service,) = (s for s in node.services if s.srv_name.endswith('/change_state'))
    change_state = service.callback

    async def change_state_aside(request: Any, response: Any) -> Any:
        done: Future = Future(executor=node.executor)

        def change() -> None:
            done.set_result(change_state(request, response))
            if node.executor:
                node.executor.wake()
            running.discard(threading.current_thread())

        thread = threading.Thread(target=change, name='transition', daemon=True)
        running.add(thread)
        thread.start()
        return await done

    service.callback = change_state_aside
    # Callbacks of the node's default group run while it waits.
    service.callback_group = ReentrantCallbackGroup()
    service.callback_group.add_entity(service)
    return running

# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Transitions of a managed node on threads of their own, beside its executor."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future


def answer_during_transitions(node: LifecycleNode) -> None:
    """Run transitions of the service change_state without blocking the executor.

    rclpy runs a transition within the service's callback: for as long as it takes no other service
    and no timer of the node would be answered.
    """
    (service,) = (s for s in node.services if s.srv_name.endswith('/change_state'))
    change_state = service.callback

    async def change_state_aside(request: Any, response: Any) -> Any:
        done: Future = Future(executor=node.executor)

        def change() -> None:
            done.set_result(change_state(request, response))
            if node.executor:
                node.executor.wake()

        threading.Thread(target=change, name='transition', daemon=True).start()
        return await done

    service.callback = change_state_aside
    # While it waits, callbacks of the node's own group may run.
    service.callback_group = ReentrantCallbackGroup()
    service.callback_group.add_entity(service)
